//! The frames that answer requests of a client that speaks JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::envelope;
use super::request::Fault;
use crate::bus::{Answered, Page, Position};
use crate::presence;
use crate::wire::{Frame, Payload};

/// The reply that a message was published; with its position if a history has taken it.
pub(super) fn published(id: u64, position: Option<Position>) -> Frame {
    let published = position.map_or_else(|| json!({}), at);
    Frame::text(json!({ "id": id, "published": published }).to_string())
}

/// The reply with the answer of the service, or with the reason why there is none.
pub(super) fn answered(id: u64, answered: &Answered) -> Frame {
    match answered {
        Ok(data) => Frame::text(format!("{{\"id\":{id},\"answer\":{{\"data\":{data}}}}}")),
        Err(error) => {
            let error = json!({ "code": error.code(), "message": error.to_string() });
            Frame::text(json!({ "id": id, "error": error }).to_string())
        }
    }
}

/// The reply that a request was refused.
pub(super) fn refused(id: u64, fault: Fault) -> Frame {
    let error = json!({ "code": fault.code(), "message": fault.message() });
    Frame::text(json!({ "id": id, "error": error }).to_string())
}

/// The reply with messages of a history; `names_senders` adds the clients that sent them.
pub(super) fn history(id: u64, page: &Page, names_senders: bool) -> Frame {
    let messages = page.messages.iter().map(|recorded| {
        let message = &recorded.message;
        let mut json = match message.payload() {
            Payload::Text(data) if recorded.is_end => {
                let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
                json!({ "end": data, "offset": message.offset() })
            }
            Payload::Text(text) => json!({ "text": text, "offset": message.offset() }),
            Payload::Binary(bytes) => {
                json!({ "base64": BASE64.encode(bytes), "offset": message.offset() })
            }
        };
        if let Some(sender) = message.sender().filter(|_| names_senders) {
            json["from"] = envelope::from(sender);
        }
        if let Some(tags) = message.tags() {
            json["tags"] = json!(tags.to_map());
        }
        json
    });
    let mut history = at(page.position);
    history["messages"] = messages.collect();
    Frame::text(json!({ "id": id, "history": history }).to_string())
}

/// The reply with clients of the room, whose JSON is shared by all that ask for it.
pub(super) fn presence(id: u64, page: &presence::Page) -> Frame {
    Frame::text(format!("{{\"id\":{id},\"presence\":{}}}", page.json()))
}

/// A position as members of an object.
pub(super) fn at(position: Position) -> serde_json::Value {
    json!({ "epoch": position.epoch.to_string(), "offset": position.offset })
}
