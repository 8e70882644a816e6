//! The JSON of notices and pages, as clients of `busline.v1.json` read it.

use std::fmt::Write as _;

use serde_json::json;

use super::notices::{Joined, Told};
use super::roll::{Count, Page, Shown};
use crate::bus::ClientId;

/// The notices of joins and leaves that are told together: at most one of joins, and one of leaves
/// behind it; the last one has the count, if there is one.
pub(super) fn notices(told: &Told, count: Option<Count>) -> Vec<String> {
    let joined = told.joined.iter().map(|(id, joined)| (id, join(joined)));
    let left = told.left.iter().map(|(id, shown)| (id, client(shown)));
    let mut notices: Vec<_> = [("joined", object(joined)), ("left", object(left))]
        .into_iter()
        .filter_map(|(name, clients)| Some(format!("{{\"{name}\":{}", clients?)))
        .collect();
    if let (Some(last), Some(count)) = (notices.last_mut(), count) {
        last.push_str(&counted(count));
    }
    notices.iter_mut().for_each(|notice| notice.push('}'));
    notices
}

fn counted(count: Count) -> String {
    let Count { clients, subjects } = count;
    format!(",\"num_clients\":{clients},\"num_subjects\":{subjects}")
}

/// An object with a member for each client; `None` without any.
fn object<'a>(clients: impl Iterator<Item = (&'a ClientId, String)>) -> Option<String> {
    let mut object = String::new();
    for (id, shown) in clients {
        let before = if object.is_empty() { '{' } else { ',' };
        write!(object, "{before}\"{id}\":{shown}").expect("a string takes everything");
    }
    (!object.is_empty()).then(|| object + "}")
}

fn join(joined: &Joined) -> String {
    let mut json = client(&joined.shown);
    if let Some(replaced) = joined.replaces {
        json.truncate(json.len() - 1);
        write!(json, ",\"replaces\":\"{replaced}\"}}").expect("a string takes everything");
    }
    json
}

fn client(shown: &Shown) -> String {
    let subject = json!(shown.subject.as_deref());
    let info = shown.info.as_deref().unwrap_or("null");
    format!("{{\"subject\":{subject},\"info\":{info}}}")
}

impl Page {
    /// The page in the JSON of `busline.v1.json`, made once.
    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| self.to_json().into())
    }

    fn to_json(&self) -> String {
        let count = counted(Count {
            clients: self.num_clients,
            subjects: self.num_subjects,
        });
        if self.is_count {
            return format!("{{{}}}", count.trim_start_matches(','));
        }
        let clients = self.clients.iter().map(|(id, shown)| (id, client(shown)));
        let clients = object(clients).unwrap_or_else(|| "{}".to_owned());
        format!("{{\"clients\":{clients}{count},\"more\":{}}}", self.more)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn shown() -> Shown {
        Shown {
            subject: Some("a\"nn".into()),
            info: Some("{\"name\":\"Ann\"}".into()),
        }
    }

    fn parsed(told: &Told, count: Option<Count>) -> Vec<Value> {
        let notices = notices(told, count);
        let parsed = notices.iter().map(|notice| serde_json::from_str(notice));
        parsed.collect::<Result<_, _>>().expect("JSON")
    }

    #[test]
    fn notices_name_clients_and_the_last_one_has_the_count() {
        let joined = |replaces| Joined::of(shown(), replaces);
        let told = Told {
            joined: BTreeMap::from([
                (ClientId::new(2), joined(None)),
                (ClientId::new(3), joined(Some(ClientId::new(1)))),
            ]),
            left: BTreeMap::from([(ClientId::new(9), Shown::default())]),
        };
        let ann = json!({ "subject": "a\"nn", "info": { "name": "Ann" } });
        let again = json!({ "subject": "a\"nn", "info": { "name": "Ann" }, "replaces": "1" });
        let first = json!({ "joined": { "2": ann, "3": again } });
        let gone = json!({ "subject": null, "info": null });
        let left = json!({ "left": { "9": gone } });
        assert_eq!(parsed(&told, None), [first.clone(), left]);
        let count = Count {
            clients: 7,
            subjects: 5,
        };
        let left = json!({ "left": { "9": gone }, "num_clients": 7, "num_subjects": 5 });
        assert_eq!(parsed(&told, Some(count)), [first, left]);
        assert_eq!(parsed(&Told::default(), Some(count)), [Value::Null; 0]);
    }

    #[test]
    fn a_page_lists_clients_or_counts_them() {
        let mut page = Page {
            clients: vec![(ClientId::new(2), shown())],
            num_clients: 7,
            num_subjects: 5,
            more: true,
            ..Page::default()
        };
        let ann = json!({ "subject": "a\"nn", "info": { "name": "Ann" } });
        let expected = json!({
            "clients": { "2": ann }, "num_clients": 7, "num_subjects": 5, "more": true,
        });
        let of = |page: &Page| serde_json::from_str::<Value>(page.json()).expect("JSON");
        assert_eq!(of(&page), expected);
        page = Page {
            num_clients: 7,
            num_subjects: 5,
            is_count: true,
            ..Page::default()
        };
        assert_eq!(of(&page), json!({ "num_clients": 7, "num_subjects": 5 }));
    }
}
