//! The calls of backends in plans: what each asks of the API, and how it is written. Written by
//! `docs/api.md`, apart from the product.

use std::time::Duration;

use busline::Limits;
use busline::app::Builder;
use busline::caller::{Key, Keys, Rights};
use busline::rt::Runtime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rooms::name;

/// The first number of the backends.
pub const BACKENDS: u32 = 8_000;

/// The first number of the clients that put requests to services.
pub const ASKERS: u32 = 9_000;

/// The code with which a backend closes the clients of a room.
pub(crate) const PARTED: u16 = 4002;

/// The key that all backends show.
const KEY: &str = "the-key-of-the-backends-of-a-plan";

/// The bounds of calls and requests of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// The time that a service has for an answer.
    pub request_timeout_ms: u64,
    /// The time that a connection may wait for its next call.
    pub idle_timeout_ms: u64,
}

impl Calls {
    /// These limits with the bounds of calls.
    pub(crate) fn limit(self, mut limits: Limits) -> Limits {
        limits.request_timeout = Duration::from_millis(self.request_timeout_ms);
        limits.api.idle_timeout = Duration::from_millis(self.idle_timeout_ms);
        limits
    }
}

/// Opens the API to backends, on the address for clients.
pub(crate) fn open<R: Runtime>(builder: Builder<R>) -> Builder<R> {
    let key = Key::new(KEY, Rights::all("backend")).expect("it is long enough");
    builder.api_keys(Keys::new([key])).api_public(true)
}

/// What a backend asks of the API, or does to its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Several, one after the other.
    Batch {
        /// None of which is a batch, or ends the connection.
        calls: Vec<Self>,
    },
    /// The clients of a room are closed.
    Disconnect {
        /// The path of the room.
        room: String,
    },
    /// The connection is reset; no call.
    HangUp,
    /// The history of a room is read, as much of it as may be.
    History {
        /// The path of the room.
        room: String,
    },
    /// A text is published.
    Publish {
        /// The path of the room.
        room: String,
        /// The text, without the quotes that its room gets.
        text: String,
        /// The idempotency key, or nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        once: String,
        /// Whether no history takes it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        live: bool,
    },
    /// A request to the service of a room.
    Rpc {
        /// The path of the room.
        room: String,
        /// Which way the service is to answer.
        method: String,
        /// What tells this request from all others.
        tag: String,
    },
}

/// The text of a call as its room gets it: the JSON of a string.
pub(crate) fn told(text: &str) -> String {
    Value::from(text).to_string()
}

/// The channel of the room with this path.
fn channel(path: &str) -> String {
    name(path).unwrap_or_default()
}

impl Call {
    /// The calls in it: those of a batch, or itself.
    pub(crate) fn each(&self) -> &[Self] {
        match self {
            Self::Batch { calls } => calls,
            Self::Disconnect { .. }
            | Self::HangUp
            | Self::History { .. }
            | Self::Publish { .. }
            | Self::Rpc { .. } => std::slice::from_ref(self),
        }
    }

    /// Whether it may be sent again without being done twice.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self, Self::Publish { once, .. } if !once.is_empty())
    }

    /// The number of requests to services in it.
    pub(crate) fn rpcs(&self) -> u64 {
        let is_rpc = |call: &&Self| matches!(call, Self::Rpc { .. });
        self.each().iter().filter(is_rpc).count() as u64
    }

    /// The name of its method.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Batch { .. } => "batch",
            Self::Disconnect { .. } => "disconnect",
            Self::HangUp => "",
            Self::History { .. } => "history",
            Self::Publish { .. } => "publish",
            Self::Rpc { .. } => "rpc",
        }
    }

    fn params(&self) -> Value {
        match self {
            Self::Batch { calls } => {
                let commands = calls
                    .iter()
                    .map(|call| json!({ call.method(): call.params() }));
                json!({ "commands": commands.collect::<Value>() })
            }
            Self::Disconnect { room } => {
                let parted = json!({ "code": PARTED, "reason": "as the plan says" });
                json!({ "room": channel(room), "disconnect": parted })
            }
            Self::HangUp => Value::Null,
            Self::History { room } => json!({ "channel": channel(room), "limit": -1 }),
            Self::Publish {
                room,
                text,
                once,
                live,
            } => {
                let mut params = json!({ "channel": channel(room), "data": text });
                if !once.is_empty() {
                    params["idempotency_key"] = Value::from(once.as_str());
                }
                if *live {
                    params["skip_history"] = Value::from(true);
                }
                params
            }
            Self::Rpc { room, method, tag } => {
                json!({ "method": format!("{}.{method}", channel(room)), "params": tag })
            }
        }
    }

    /// The request of HTTP.
    pub(crate) fn request(&self) -> Vec<u8> {
        let (method, body) = (self.method(), self.params().to_string());
        format!(
            "POST /api/{method} HTTP/1.1\r\nHost: server\r\nX-API-Key: {KEY}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A response of HTTP with a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Takes the first response out of what has arrived, if it is whole.
///
/// # Errors
///
/// When it is none.
pub(crate) fn response(arrived: &mut Vec<u8>) -> Result<Option<Response>, String> {
    let Some(end) = arrived.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&arrived[..end]).into_owned();
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse().ok());
    let length = head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        let is_it = field.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(format!("no response with a length: {head}"));
    };
    let whole = end + 4 + length;
    if arrived.len() < whole {
        return Ok(None);
    }
    let body = String::from_utf8_lossy(&arrived[end + 4..whole]).into_owned();
    arrived.drain(..whole);
    Ok(Some(Response { status, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_request() {
        let publish = Call::Publish {
            room: "relay/a%2Fb".to_owned(),
            text: "say".to_owned(),
            once: "k".to_owned(),
            live: true,
        };
        let expected =
            r#"{"channel":"relay:a/b","data":"say","idempotency_key":"k","skip_history":true}"#;
        assert_eq!(publish.params().to_string(), expected);
        let batch = Call::Batch {
            calls: vec![Call::Rpc {
                room: "hall/a".to_owned(),
                method: "now".to_owned(),
                tag: "t".to_owned(),
            }],
        };
        let request = String::from_utf8(batch.request()).expect("text");
        assert!(
            request.starts_with("POST /api/batch HTTP/1.1\r\n"),
            "{request}"
        );
        let body = r#"{"commands":[{"rpc":{"method":"hall:a.now","params":"t"}}]}"#;
        assert!(request.ends_with(&format!("Content-Length: {}\r\n\r\n{body}", body.len())));
    }

    #[test]
    fn responses_are_taken_one_by_one() {
        let one = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let mut arrived = [&one[..], one, &one[..20]].concat();
        let whole = Response {
            status: 200,
            body: "{}".to_owned(),
        };
        assert_eq!(response(&mut arrived), Ok(Some(whole.clone())));
        assert_eq!(response(&mut arrived), Ok(Some(whole)));
        assert_eq!(response(&mut arrived), Ok(None));
        assert!(response(&mut b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).is_err());
    }
}
