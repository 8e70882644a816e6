//! The facts about a client that a kind of rooms shows to others.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::roll::Shown;
use crate::client::grant::Grant;
use crate::client::identity::Identity;

impl Shown {
    /// The subject, and the facts that the grant names, or else those of the claims that the kind
    /// shows.
    pub(crate) fn of(identity: &Identity, grant: &Grant, claims: &[String]) -> Self {
        let is_object = |info: &Arc<str>| serde_json::from_str::<Map<String, Value>>(info).is_ok();
        let info = grant.info.clone().filter(is_object);
        Self {
            subject: identity.subject.clone(),
            info: match &grant.info {
                Some(_) => info,
                None => identity
                    .claims
                    .as_deref()
                    .and_then(|all| chosen(all, claims)),
            },
        }
    }
}

/// The members of these claims with one of these names; `None` if there are none.
fn chosen(claims: &str, names: &[String]) -> Option<Arc<str>> {
    if names.is_empty() {
        return None;
    }
    let claims: Map<String, Value> = serde_json::from_str(claims).ok()?;
    let chosen = claims.into_iter().filter(|(name, _)| names.contains(name));
    let chosen: Map<_, _> = chosen.collect();
    (!chosen.is_empty()).then(|| Value::Object(chosen).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(claims: Option<&str>, grant: &Grant, names: &[&str]) -> Option<Arc<str>> {
        let identity = Identity {
            subject: Some("ann".into()),
            claims: claims.map(Into::into),
            expires: None,
        };
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let shown = Shown::of(&identity, grant, &names);
        assert_eq!(shown.subject.as_deref(), Some("ann"));
        shown.info
    }

    #[test]
    fn the_chosen_claims_are_shown_and_no_other_one() {
        let claims = Some(r#"{"sub":"ann","name":"Ann","mail":"s3cret","tags":["a",1]}"#);
        let by_default = Grant::default();
        for (names, shown) in [
            (&[][..], None),
            (&["name"][..], Some(r#"{"name":"Ann"}"#)),
            (&["tags", "none"], Some(r#"{"tags":["a",1]}"#)),
            (&["none"], None),
        ] {
            assert_eq!(info(claims, &by_default, names).as_deref(), shown);
        }
        assert_eq!(info(None, &by_default, &["name"]), None);
        let grant = Grant::default().showing(r#"{"role":"admin"}"#);
        let shown = info(claims, &grant, &["name"]);
        assert_eq!(shown.as_deref(), Some(r#"{"role":"admin"}"#));
        // Facts that are no JSON object are shown as none: they would break the JSON around them.
        for bad in ["", "{", "7", "[1]", "null"] {
            let shown = info(claims, &Grant::default().showing(bad), &[]);
            assert_eq!(shown, None, "{bad}");
        }
    }
}
