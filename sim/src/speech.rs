//! What a client asks for in its request: envelopes of JSON, compressed messages. Written by
//! `docs/subprotocol.md` and RFC 7692, apart from the product.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::past::{self, Fact, Placed};

/// How a client and the server write to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speech {
    /// The subprotocol `busline.v1.json`.
    pub(crate) json: bool,
    /// permessage-deflate.
    pub(crate) deflate: bool,
}

/// What the server tells a client about what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// Messages were lost.
    Lagged {
        /// So many.
        messages: u64,
    },
    /// Its service was started again.
    Restarted {
        /// Which run of it this is.
        generation: u64,
    },
}

/// What a text says to a client that speaks JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Something about the history of its room, or the reply to a request.
    Fact(Fact),
    Notice(Notice),
    /// A text of a relay, with its sender and its place.
    Placed(Placed),
    /// The client is refused; the status that a client without JSON gets for it.
    Refused(u16),
    Text(String),
}

impl Speech {
    /// The lines of the request that ask for it.
    pub(crate) fn request(self) -> String {
        let mut lines = String::new();
        if self.json {
            lines += "Sec-WebSocket-Protocol: busline.v1.json\r\n";
        }
        if self.deflate {
            lines += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        }
        lines
    }

    /// What was agreed on in this response.
    pub(crate) fn agreed(head: &str) -> Self {
        let has = |name: &str, value: &str| {
            head.lines().any(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with(name) && line.contains(value)
            })
        };
        Self {
            json: has("sec-websocket-protocol:", "busline.v1.json"),
            deflate: has("sec-websocket-extensions:", "permessage-deflate"),
        }
    }

    /// A text that wants a reply, as it is put into a frame.
    pub(crate) fn telling(self, id: u64, text: &str) -> String {
        if self.json {
            json!({ "text": text, "id": id }).to_string()
        } else {
            text.to_owned()
        }
    }

    /// A request of this client to its service, as it is put into a frame.
    pub(crate) fn request_to(self, client: u32, id: u64, method: &str) -> String {
        let request = json!({ "method": method, "data": tag(client, id) });
        json!({ "id": id, "request": request }).to_string()
    }

    /// A text as it is put into a frame.
    pub(crate) fn envelope(self, text: &str) -> String {
        if self.json {
            json!({ "text": text }).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// What tells the request with this number of a client from all others.
pub(crate) fn tag(client: u32, id: u64) -> String {
    format!("{client}.{id}")
}

/// The number of a request to a service, and its tag; `None` of any other text.
pub(crate) fn asked(text: &str) -> Option<(u64, String)> {
    // Few texts are requests, and all are looked at.
    if !text.contains("\"request\"") {
        return None;
    }
    let request: Value = serde_json::from_str(text).ok()?;
    let tag = request.get("request")?.get("data")?.as_str()?;
    Some((request.get("id")?.as_u64()?, tag.to_owned()))
}

/// Whether a text asks for the history, which makes it no message.
pub(crate) fn is_reading(text: &str) -> bool {
    text.starts_with("{\"id\":") && text.contains(",\"history\":")
}

/// The text of a client, taken out of its envelope; `None` if it is in none.
pub(crate) fn opened(envelope: &str) -> Option<String> {
    match said(envelope)? {
        Said::Text(text) => Some(text),
        Said::Fact(_) | Said::Notice(_) | Said::Placed(_) | Said::Refused(_) => None,
    }
}

/// The status of the refusal with this close code: `docs/subprotocol.md`.
pub(crate) fn status(code: u64) -> Option<u16> {
    match code {
        4400 => Some(400),
        4401 => Some(401),
        4403 => Some(403),
        4404 => Some(404),
        4429 => Some(503),
        _ => None,
    }
}

/// What a text of JSON says; `None` if it is none that the server writes.
pub(crate) fn said(text: &str) -> Option<Said> {
    let Ok(Value::Object(map)) = serde_json::from_str(text) else {
        return None;
    };
    let number = |field: &str| map.get(field).and_then(Value::as_u64);
    if let (1, Some(refused)) = (map.len(), map.get("refused")) {
        let code = refused.get("code").and_then(Value::as_u64);
        return code.and_then(status).map(Said::Refused);
    }
    match (map.len(), map.get("text"), map.get("service")) {
        (1, Some(Value::String(text)), None) => Some(Said::Text(text.clone())),
        (1, None, None) if map.contains_key("lagged") => number("lagged")
            .map(|messages| Notice::Lagged { messages })
            .map(Said::Notice),
        (2, None, Some(Value::String(service))) if service == "restarted" => number("generation")
            .map(|generation| Notice::Restarted { generation })
            .map(Said::Notice),
        _ => {
            let placed = past::placed(&map).map(Said::Placed);
            placed.or_else(|| past::fact(&map).map(Said::Fact))
        }
    }
}

/// The payload of a compressed message: RFC 7692 7.2.3.4, as the last block is a final one.
pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    const LEVEL: u8 = 6;
    let mut deflated = compress_to_vec(bytes, LEVEL);
    deflated.push(0);
    deflated
}

/// What a compressed payload stands for: RFC 7692 7.2.2; `None` if it is no such payload.
pub(crate) fn inflated(payload: &[u8]) -> Option<Vec<u8>> {
    // The end of a flushed block, and an empty block that is the last one.
    const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
    /// Longer than any message of a plan.
    const BYTES_MAX: usize = 1 << 20;
    let whole = [payload, &END].concat();
    decompress_to_vec_with_limit(&whole, BYTES_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deflated_is_inflated_again() {
        for length in [0, 1, 30, 5_000] {
            let bytes: Vec<u8> = (0..length).map(|n: usize| (n % 7) as u8).collect();
            assert_eq!(inflated(&deflated(&bytes)), Some(bytes));
        }
        assert_eq!(inflated(b"\xff\xff\xff"), None);
    }

    #[test]
    fn envelopes_and_notices_are_told_apart() {
        let json = Speech {
            json: true,
            deflate: false,
        };
        let text = "a \"text\"";
        assert_eq!(opened(&json.envelope(text)).as_deref(), Some(text));
        let lagged = Notice::Lagged { messages: 3 };
        assert_eq!(said(r#"{"lagged":3}"#), Some(Said::Notice(lagged)));
        let restarted = Notice::Restarted { generation: 2 };
        let told = r#"{"service":"restarted","generation":2}"#;
        assert_eq!(said(told), Some(Said::Notice(restarted)));
        let refused = r#"{"refused":{"code":4429,"reason":"full","retry":1000}}"#;
        assert_eq!(said(refused), Some(Said::Refused(503)));
        for none in [
            "text",
            "{}",
            r#"{"refused":{"code":1000}}"#,
            r#"{"lagged":"3"}"#,
            r#"{"text":"a","b":1}"#,
        ] {
            assert_eq!(said(none), None, "{none}");
        }
    }

    #[test]
    fn what_was_agreed_on_is_in_the_head_of_the_response() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-protocol: \
                    busline.v1.json\r\nSec-WebSocket-Extensions: permessage-deflate; x\r\n\r\n";
        let both = Speech {
            json: true,
            deflate: true,
        };
        assert_eq!(Speech::agreed(head), both);
        assert_eq!(Speech::agreed("HTTP/1.1 101 x\r\n\r\n"), Speech::default());
        assert!(both.request().contains("permessage-deflate"));
    }
}
