//! Requests of a client that speaks JSON, each with a number for its reply.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::bus::{HistoryError, Reading, divide_method};

/// A request of a client with the number of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The number; `None` for a text that is published live alone without one.
    pub(super) id: Option<u64>,
    pub(super) asks: Asks,
}

/// The wish of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Nothing that there is; the fault in words.
    Bad(&'static str),
    /// To read from the history.
    History(Reading),
    /// To list the clients of the room that follow `after`, at most `limit`.
    Presence { after: Option<u64>, limit: usize },
    /// To have an answer of the service.
    Answer(Ask),
    /// To publish a text, live alone or into the history as well.
    Publish { text: String, is_live: bool },
}

/// A request to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The room as a channel, or the service, if the method names it.
    pub(super) room: Option<String>,
    pub(super) method: String,
    /// The parameters as JSON text.
    pub(super) data: String,
}

/// The reason why a request is not served, by the numbers of Centrifugo's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client may not do this.
    Forbidden,
    /// The request is not well formed, or its message is not what the room takes.
    Bad(&'static str),
    /// The room has no history.
    NoHistory,
    /// The room keeps no presence.
    NoPresence,
    /// The stream of the room has ended.
    Ended,
    /// The history has begun anew.
    WrongEpoch,
}

impl Fault {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Forbidden => 103,
            Self::Bad(_) => 107,
            Self::Ended | Self::NoHistory | Self::NoPresence => 108,
            Self::WrongEpoch => 112,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Forbidden => "permission denied",
            Self::Bad(message) => message,
            Self::Ended => "the stream has ended",
            Self::NoHistory => "there is no history here",
            Self::NoPresence => "there is no presence here",
            Self::WrongEpoch => "the history has begun anew: read it without `since`",
        }
    }
}

impl From<HistoryError> for Fault {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unrecorded => Self::NoHistory,
            HistoryError::WrongEpoch { .. } => Self::WrongEpoch,
        }
    }
}

impl Request {
    /// Parses an object with an `id`, or a text with `live`; `None` for any other text, and for a
    /// fault that no reply could tell, as the `id` is missing or no whole number from 0 on.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        // The data of a request to the service are not looked into: they may hold a number that no
        // type here can.
        let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
        let mut members = Map::new();
        for (name, raw) in &raw {
            members.insert(name.clone(), value(name, raw)?);
        }
        let id = match members.get("id") {
            Some(id) => Some(id.as_u64()?),
            None => None,
        };
        match (id, asks(&members, raw.get("request").copied())) {
            (None, Err(_) | Ok(Asks::Answer(_) | Asks::History(_))) => None,
            (None, Ok(Asks::Presence { .. } | Asks::Bad(_))) => None,
            (None, Ok(_)) if !members.contains_key("live") => None,
            (id, asks) => Some(Self {
                id,
                asks: asks.unwrap_or_else(Asks::Bad),
            }),
        }
    }
}

/// A member as a value, but for a request to the service, which is not looked into.
fn value(name: &str, raw: &RawValue) -> Option<Value> {
    match name {
        "request" => Some(Value::Null),
        _ => serde_json::from_str(raw.get()).ok(),
    }
}

/// Reads the wish of a request.
///
/// # Errors
///
/// The fault, as the end of a sentence.
fn asks(members: &Map<String, Value>, request: Option<&RawValue>) -> Result<Asks, &'static str> {
    let known = ["id", "text", "live", "history", "presence", "request"];
    let is_known = |name: &String| known.contains(&name.as_str());
    if !members.keys().all(is_known) {
        return Err("the request has an unknown member");
    }
    let is_live = switch(members, "live").ok_or("`live` is true or false")?;
    let asked = ["text", "history", "presence", "request"];
    let mut asked = asked.into_iter().filter(|name| members.contains_key(*name));
    let (Some(name), None) = (asked.next(), asked.next()) else {
        return Err("a request has `text`, `history`, `presence` or `request`");
    };
    match (name, &members[name]) {
        ("text", Value::String(text)) => Ok(Asks::Publish {
            text: text.clone(),
            is_live,
        }),
        ("text", _) => Err("`text` is a string"),
        ("history", Value::Object(wanted)) => reading(wanted).map(Asks::History),
        ("history", _) => Err("`history` is an object"),
        ("presence", Value::Object(wanted)) => presence(wanted),
        ("presence", _) => Err("`presence` is an object"),
        _ => ask(request.map_or("null", RawValue::get)).map(Asks::Answer),
    }
}

/// Reads a request to the service, whose data are handed over as they are written.
fn ask(request: &str) -> Result<Ask, &'static str> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted<'a> {
        method: String,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let fault = "`request` is {\"method\":\"...\",\"data\":...}";
    let request: Wanted<'_> = serde_json::from_str(request).map_err(|_| fault)?;
    let (room, method) = divide_method(&request.method).ok_or("a method has 1 to 64 bytes")?;
    Ok(Ask {
        room: room.map(str::to_owned),
        method: method.to_owned(),
        data: request.data.map_or("null", RawValue::get).to_owned(),
    })
}

fn presence(wanted: &Map<String, Value>) -> Result<Asks, &'static str> {
    let is_known = |name: &String| ["after", "limit"].contains(&name.as_str());
    if !wanted.keys().all(is_known) {
        return Err("`presence` has an unknown member");
    }
    let after = match wanted.get("after") {
        Some(Value::String(after)) if !after.starts_with('+') => after.parse().ok(),
        Some(after) => after.as_u64(),
        None => {
            let limit = limit(wanted)?;
            return Ok(Asks::Presence { after: None, limit });
        }
    };
    let after = Some(after.ok_or("`after` is the number of a client")?);
    let limit = limit(wanted)?;
    Ok(Asks::Presence { after, limit })
}

fn reading(wanted: &Map<String, Value>) -> Result<Reading, &'static str> {
    let is_known = |name: &String| ["since", "limit", "reverse"].contains(&name.as_str());
    if !wanted.keys().all(is_known) {
        return Err("`history` has an unknown member");
    }
    let since = match wanted.get("since") {
        Some(since) => {
            let since = since.as_str().and_then(|since| since.parse().ok());
            Some(since.ok_or("`since` is <epoch>:<offset>")?)
        }
        None => None,
    };
    Ok(Reading {
        since,
        limit: limit(wanted)?,
        reverse: switch(wanted, "reverse").ok_or("`reverse` is true or false")?,
    })
}

/// The member `limit`; any number where it is missing.
fn limit(wanted: &Map<String, Value>) -> Result<usize, &'static str> {
    let Some(limit) = wanted.get("limit") else {
        return Ok(usize::MAX);
    };
    let limit = limit.as_u64().ok_or("`limit` is a whole number")?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// A member that is true or false; false where it is missing, `None` for any other value.
fn switch(members: &Map<String, Value>, name: &str) -> Option<bool> {
    members.get(name).map_or(Some(false), Value::as_bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Option<Request> {
        Request::parse(json.as_bytes())
    }

    fn publish(id: Option<u64>, is_live: bool) -> Option<Request> {
        let text = "a".to_owned();
        let asks = Asks::Publish { text, is_live };
        Some(Request { id, asks })
    }

    #[test]
    fn a_request_has_a_number_or_is_live() {
        assert_eq!(parsed(r#"{"id":0,"text":"a"}"#), publish(Some(0), false));
        assert_eq!(parsed(r#"{"live":true,"text":"a"}"#), publish(None, true));
        assert_eq!(parsed(r#"{"text":"a","live":false}"#), publish(None, false));
        let all = Reading {
            since: None,
            limit: usize::MAX,
            reverse: false,
        };
        let asks = Asks::History(all);
        let expected = Some(Request { id: Some(7), asks });
        assert_eq!(parsed(r#"{"id":7,"history":{}}"#), expected);
        let asked = |after, limit| Asks::Presence { after, limit };
        for (json, asks) in [
            (r#"{"id":7,"presence":{}}"#, asked(None, usize::MAX)),
            (r#"{"id":7,"presence":{"limit":3}}"#, asked(None, 3)),
            (
                r#"{"id":7,"presence":{"after":"9"}}"#,
                asked(Some(9), usize::MAX),
            ),
            (
                r#"{"id":7,"presence":{"after":9,"limit":1}}"#,
                asked(Some(9), 1),
            ),
        ] {
            assert_eq!(parsed(json), Some(Request { id: Some(7), asks }), "{json}");
        }
        let ask = |room: Option<&str>, data: &str| {
            Asks::Answer(Ask {
                room: room.map(str::to_owned),
                method: "m".to_owned(),
                data: data.to_owned(),
            })
        };
        for (json, asks) in [
            (r#"{"id":7,"request":{"method":"m"}}"#, ask(None, "null")),
            (
                r#"{"request":{"data":{ "b":1, "a":1e400},"method":"x:1.2.m"},"id":7}"#,
                ask(Some("x:1.2"), r#"{ "b":1, "a":1e400}"#),
            ),
        ] {
            assert_eq!(parsed(json), Some(Request { id: Some(7), asks }), "{json}");
        }
        for none in [
            r#"{"text":"a"}"#,
            r#"{"request":{"method":"m"}}"#,
            r#"{"presence":{}}"#,
            r#"{"history":{}}"#,
            r#"{"id":-1,"text":"a"}"#,
            r#"{"id":1.5,"text":"a"}"#,
            r#"{"id":"1","text":"a"}"#,
            r#"{"id":18446744073709551616,"text":"a"}"#,
            r#"{"live":1,"text":"a"}"#,
            r#"[1,"a",false,null]"#,
            "7",
        ] {
            assert_eq!(parsed(none), None, "{none}");
        }
    }

    #[test]
    fn a_fault_of_a_request_with_a_number_is_named() {
        for (json, fault) in [
            (r#"{"id":1}"#, "`text`, `history`, `presence` or"),
            (
                r#"{"id":1,"text":"a","history":{}}"#,
                "`text`, `history`, `presence` or",
            ),
            (
                r#"{"id":1,"presence":{},"history":{}}"#,
                "`text`, `history`, `presence` or",
            ),
            (r#"{"id":1,"presence":true}"#, "`presence` is an object"),
            (
                r#"{"id":1,"presence":{"x":1}}"#,
                "`presence` has an unknown member",
            ),
            (r#"{"id":1,"presence":{"after":"x"}}"#, "`after` is"),
            (r#"{"id":1,"presence":{"after":-1}}"#, "`after` is"),
            (r#"{"id":1,"presence":{"after":"+1"}}"#, "`after` is"),
            (r#"{"id":1,"presence":{"limit":"x"}}"#, "`limit` is"),
            (r#"{"id":1,"text":5}"#, "`text` is a string"),
            (r#"{"id":1,"text":"a","live":1}"#, "`live` is"),
            (r#"{"id":1,"text":"a","x":1}"#, "unknown member"),
            (r#"{"id":1,"history":[]}"#, "`history` is an object"),
            (
                r#"{"id":1,"history":{"x":1}}"#,
                "`history` has an unknown member",
            ),
            (r#"{"id":1,"history":{"since":5}}"#, "`since` is"),
            (r#"{"id":1,"history":{"since":"zz:1"}}"#, "`since` is"),
            (r#"{"id":1,"history":{"limit":-1}}"#, "`limit` is"),
            (r#"{"id":1,"history":{"reverse":1}}"#, "`reverse` is"),
            (r#"{"id":1,"request":{}}"#, "`request` is"),
            (r#"{"id":1,"request":"m"}"#, "`request` is"),
            (r#"{"id":1,"request":{"method":"m","x":1}}"#, "`request` is"),
            (r#"{"id":1,"request":{"method":"m."}}"#, "a method has"),
        ] {
            match parsed(json) {
                Some(Request {
                    id: Some(1),
                    asks: Asks::Bad(told),
                }) => assert!(told.contains(fault), "{json}: {told}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
