//! What a server tells a client of a room with a history, in JSON. Written by the documentation of
//! the subprotocol, apart from the product.

use serde_json::{Map, Value};

/// A position: the epoch as its text, and an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// A text of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) text: String,
    /// Its offset; `None` of a live text.
    pub(crate) offset: Option<u64>,
}

/// Something about the history of a room, or the reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The position, when the client has joined or when it rises without a message for the client.
    Position(Place),
    /// Whether the client has recovered, or why not, and the present position.
    Recovered { place: Place, why: Option<String> },
    /// The reply that a text was published; without a place if no history has taken it.
    Published { id: u64, place: Option<Place> },
    /// The reply with the answer of a service.
    Answer { id: u64, data: Value },
    /// The reply that a request is refused, with the code.
    Refused { id: u64, code: u64 },
    /// The reply with texts of the history and their offsets.
    Page {
        id: u64,
        place: Place,
        texts: Vec<(u64, String)>,
    },
    /// Who has joined and who has left.
    Company(Company),
    /// The end of the stream, as [`end`] makes a text of it, and its offset.
    End { text: String, offset: u64 },
}

/// Clients of a room by their numbers, as one of them is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Company {
    /// Clients that have joined, each with the client whose place it takes.
    pub(crate) joined: Vec<(u64, Option<u64>)>,
    pub(crate) left: Vec<u64>,
    /// Notices that are missing.
    pub(crate) missed: u64,
}

impl Fact {
    /// Whether it is the reply to a request.
    pub(crate) fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::Answer { .. } | Self::Page { .. } | Self::Published { .. } | Self::Refused { .. }
        )
    }

    /// Whether the server counts it as a message.
    pub(crate) fn is_message(&self) -> bool {
        matches!(self, Self::Company(company) if company.missed == 0)
    }
}

type Object = Map<String, Value>;

/// Makes a text of the data of an end, which no message has as its own.
pub(crate) fn end(data: &str) -> String {
    format!("end {data}")
}

/// Reads a text of a relay; `None` of anything else.
pub(crate) fn placed(map: &Object) -> Option<Placed> {
    let text = map.get("text")?.as_str()?.to_owned();
    let known = ["from", "offset", "text"];
    let all_known = map.keys().all(|key| known.contains(&key.as_str()));
    let offset = match map.get("offset") {
        None => None,
        Some(offset) => Some(offset.as_u64()?),
    };
    all_known.then_some(Placed { text, offset })
}

/// Reads a fact; `None` of anything else.
pub(crate) fn fact(map: &Object) -> Option<Fact> {
    let number = |key: &str| map.get(key).and_then(Value::as_u64);
    let object = |key: &str| map.get(key).and_then(Value::as_object);
    if let (1, Some(position)) = (map.len(), object("position")) {
        return place(position).map(Fact::Position);
    }
    if let Some(recovered) = map.get("recovered").and_then(Value::as_bool) {
        let why = map.get("why").and_then(Value::as_str).map(str::to_owned);
        let place = place(map)?;
        return (recovered == why.is_none()).then_some(Fact::Recovered { place, why });
    }
    if let Some(company) = company(map) {
        return Some(Fact::Company(company));
    }
    if let (2, Some(data), Some(offset)) = (map.len(), map.get("end"), number("offset")) {
        let text = end(&data.to_string());
        return Some(Fact::End { text, offset });
    }
    let id = number("id").filter(|_| map.len() == 2)?;
    if let Some(published) = object("published") {
        let place = if published.is_empty() {
            None
        } else {
            Some(place(published)?)
        };
        return Some(Fact::Published { id, place });
    }
    if let Some(answer) = object("answer") {
        let data = answer.get("data").filter(|_| answer.len() == 1)?.clone();
        return Some(Fact::Answer { id, data });
    }
    if let Some(error) = object("error") {
        let code = error.get("code")?.as_u64()?;
        return Some(Fact::Refused { id, code });
    }
    let history = object("history")?;
    let texts = history.get("messages")?.as_array()?.iter().map(|message| {
        let offset = message.get("offset")?.as_u64()?;
        let text = match message.get("end") {
            Some(data) => end(&data.to_string()),
            None => message.get("text")?.as_str()?.to_owned(),
        };
        Some((offset, text))
    });
    Some(Fact::Page {
        id,
        place: place(history)?,
        texts: texts.collect::<Option<_>>()?,
    })
}

/// Reads a notice of joins and leaves; `None` of anything else.
fn company(map: &Object) -> Option<Company> {
    let object = |key: &str| map.get(key).and_then(Value::as_object);
    let counts = ["num_clients", "num_subjects"];
    let is_counted = counts.iter().all(|key| map.contains_key(*key));
    let is_alone = map.len() == if is_counted { 3 } else { 1 };
    let mut company = Company::default();
    if let Some(joined) = object("joined").filter(|_| is_alone) {
        for (id, client) in joined {
            let replaced = match client.get("replaces") {
                Some(replaced) => Some(replaced.as_str()?.parse().ok()?),
                None => None,
            };
            company.joined.push((id.parse().ok()?, replaced));
        }
        return Some(company);
    }
    if let Some(left) = object("left").filter(|_| is_alone) {
        let left = left.keys().map(|id| id.parse().ok());
        company.left = left.collect::<Option<_>>()?;
        return Some(company);
    }
    company.missed = object("presence")
        .filter(|_| is_alone)?
        .get("lagged")?
        .as_u64()?;
    Some(company)
}

fn place(map: &Object) -> Option<Place> {
    let epoch = map.get("epoch")?.as_str()?.to_owned();
    let offset = map.get("offset")?.as_u64()?;
    Some(Place { epoch, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Object {
        serde_json::from_str(json).expect("it is an object")
    }

    #[test]
    fn each_fact_is_read() {
        let place = |offset| Place {
            epoch: "e".to_owned(),
            offset,
        };
        for (json, expected) in [
            (
                r#"{"position":{"epoch":"e","offset":3}}"#,
                Some(Fact::Position(place(3))),
            ),
            (
                r#"{"recovered":true,"epoch":"e","offset":3}"#,
                Some(Fact::Recovered {
                    place: place(3),
                    why: None,
                }),
            ),
            (r#"{"recovered":false,"epoch":"e","offset":3}"#, None),
            (
                r#"{"id":7,"published":{}}"#,
                Some(Fact::Published { id: 7, place: None }),
            ),
            (
                r#"{"id":7,"published":{"epoch":"e","offset":4}}"#,
                Some(Fact::Published {
                    id: 7,
                    place: Some(place(4)),
                }),
            ),
            (
                r#"{"id":7,"error":{"code":112,"message":"no"}}"#,
                Some(Fact::Refused { id: 7, code: 112 }),
            ),
            (
                r#"{"id":7,"history":{"epoch":"e","offset":4,"messages":[
                    {"text":"a","offset":4,"from":null}]}}"#,
                Some(Fact::Page {
                    id: 7,
                    place: place(4),
                    texts: vec![(4, "a".to_owned())],
                }),
            ),
            (
                r#"{"id":7,"history":{"epoch":"e","offset":4,"messages":[
                    {"end":{"a":1},"offset":4,"from":null}]}}"#,
                Some(Fact::Page {
                    id: 7,
                    place: place(4),
                    texts: vec![(4, r#"end {"a":1}"#.to_owned())],
                }),
            ),
            (
                r#"{"end":null,"offset":4}"#,
                Some(Fact::End {
                    text: "end null".to_owned(),
                    offset: 4,
                }),
            ),
            (
                r#"{"id":7,"answer":{"data":["a"]}}"#,
                Some(Fact::Answer {
                    id: 7,
                    data: Value::from(vec!["a"]),
                }),
            ),
            (r#"{"end":null}"#, None),
            (r#"{"other":1}"#, None),
        ] {
            assert_eq!(fact(&read(json)), expected, "{json}");
        }
        let text = read(r#"{"text":"a","offset":4,"from":{"client":1,"subject":null}}"#);
        let expected = Placed {
            text: "a".to_owned(),
            offset: Some(4),
        };
        assert_eq!(placed(&text), Some(expected));
        assert_eq!(placed(&read(r#"{"text":"a","more":4}"#)), None);
    }
}
