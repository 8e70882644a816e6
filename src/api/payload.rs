//! The data of messages: what callers send as the message that a kind of rooms takes, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Fault;
use super::reply::Data;
use super::request::Message as Sent;
use crate::bus::Message;
use crate::limits::Payload;
use crate::wire;

/// The message that a caller sends into a room that takes such messages. `b64data` has precedence
/// over `data`.
pub(super) fn message(takes: Payload, sent: &Sent<'_>) -> Result<Message, Fault> {
    if !sent.b64data.is_empty() {
        let bytes = BASE64.decode(sent.b64data);
        let bytes = bytes.map_err(|_| Fault::bad("`b64data` is no base64"))?;
        return of_bytes(takes, bytes);
    }
    let data = sent.data.ok_or_else(|| Fault::bad("`data` is missing"))?;
    match takes {
        Payload::Any | Payload::Json => Ok(Message::text(data.get())),
        Payload::Text => {
            let text = serde_json::from_str::<String>(data.get());
            let text = text.map_err(|_| Fault::bad("this room takes texts: `data` is a string"))?;
            Ok(Message::text(text))
        }
        Payload::Binary => Err(Fault::bad("this room takes bytes: send `b64data`")),
    }
}

fn of_bytes(takes: Payload, bytes: Vec<u8>) -> Result<Message, Fault> {
    let text = |bytes| {
        let text = String::from_utf8(bytes);
        text.map_err(|_| Fault::bad("this room takes texts: `b64data` is no UTF-8"))
    };
    match takes {
        Payload::Any | Payload::Binary => Ok(Message::binary(bytes)),
        Payload::Text => text(bytes).map(Message::text),
        Payload::Json => {
            let text = text(bytes)?;
            let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            let no_json = Fault::bad("this room takes JSON: `b64data` is none");
            is_json.then(|| Message::text(text)).ok_or(no_json)
        }
    }
}

/// The data of a message of such a room: JSON as it is, another text as a string, and bytes.
pub(super) fn data(takes: Payload, message: &Message) -> Data {
    let text = match message.payload() {
        wire::Payload::Binary(bytes) => return Data::Bytes(BASE64.encode(bytes)),
        wire::Payload::Text(text) => text,
    };
    let as_it_is = (takes != Payload::Text).then(|| RawValue::from_string(text.to_owned()));
    let json = as_it_is.and_then(Result::ok).unwrap_or_else(|| {
        let string = serde_json::to_string(text).expect("a string is JSON");
        RawValue::from_string(string).expect("it was just written")
    });
    Data::Json(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(data: Option<&RawValue>, b64data: &str, takes: Payload) -> Result<Message, u16> {
        let sent = Sent {
            data,
            b64data,
            skip_history: false,
            idempotency_key: "",
            version: 0,
            version_epoch: "",
            tags: None,
        };
        message(takes, &sent).map_err(|fault| fault.code)
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).expect("JSON")
    }

    #[test]
    fn data_becomes_what_the_room_takes_or_is_refused() {
        for (json, takes, expected) in [
            (
                r#"{"b":1, "a":[ ]}"#,
                Payload::Any,
                Some(r#"{"b":1, "a":[ ]}"#),
            ),
            ("1e400", Payload::Json, Some("1e400")),
            ("null", Payload::Any, Some("null")),
            (r#""a\u0062""#, Payload::Text, Some("ab")),
            (r#""ab""#, Payload::Any, Some(r#""ab""#)),
            ("1", Payload::Text, None),
            (r#""ab""#, Payload::Binary, None),
        ] {
            let made = sent(Some(&raw(json)), "", takes);
            let expected = expected.map(Message::text).ok_or(107);
            assert_eq!(made, expected, "{json} {takes:?}");
        }
        assert_eq!(sent(None, "", Payload::Any), Err(107));
    }

    #[test]
    fn bytes_become_what_the_room_takes_or_are_refused() {
        for (bytes, takes, expected) in [
            (&b"\xff"[..], Payload::Any, Some(Message::binary(b"\xff"))),
            (b"{}", Payload::Binary, Some(Message::binary(b"{}"))),
            (b"{}", Payload::Json, Some(Message::text("{}"))),
            (b"{", Payload::Json, None),
            (b"{", Payload::Text, Some(Message::text("{"))),
            (b"\xff", Payload::Text, None),
        ] {
            let both = raw("1");
            let made = sent(Some(&both), &BASE64.encode(bytes), takes);
            assert_eq!(made, expected.ok_or(107), "{bytes:?} {takes:?}");
        }
        assert_eq!(sent(None, "!!", Payload::Any), Err(107));
    }

    #[test]
    fn a_message_is_read_as_it_was_sent() {
        let read = |takes, message: &Message| match data(takes, message) {
            Data::Bytes(bytes) => bytes,
            Data::Json(json) => json.get().to_owned(),
        };
        for (text, takes, json) in [
            (r#"{"a": 1}"#, Payload::Any, r#"{"a": 1}"#),
            ("hello", Payload::Any, r#""hello""#),
            ("1", Payload::Text, r#""1""#),
            ("1 ", Payload::Json, "1 "),
        ] {
            let found = read(takes, &Message::text(text));
            let same = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
            assert_eq!(same(&found), same(json), "{text} {takes:?}: {found}");
        }
        assert_eq!(read(Payload::Any, &Message::binary(b"\xff")), "/w==");
    }
}
