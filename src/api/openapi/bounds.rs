//! The bounds of parameters, which a type of Rust does not say.

use serde_json::{Value, json};

use crate::limits::{
    ApiLimits, CHANNEL_BYTES_MAX, CHANNEL_PATTERN_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX,
    METHOD_BYTES_MAX, VERSION_EPOCH_BYTES_MAX,
};
use crate::wire::CLOSE_REASON_BYTES_MAX;

/// Base64 with its padding, whose last character has no bits that stand for nothing.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*\
    ([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

/// The bounds of schemas, by their names.
pub(super) fn of(limits: &ApiLimits) -> Vec<(&'static str, Value)> {
    let message = message();
    let broadcast = json!({
        "required": ["channels"],
        "properties": {
            "channels": { "items": channel(), "minItems": 1, "maxItems": limits.broadcast },
        },
    });
    let publish = json!({ "required": ["channel"], "properties": { "channel": channel() } });
    let of_room = publish.clone();
    vec![
        ("BatchParams", batch(limits)),
        ("BroadcastParams", message.clone()),
        ("BroadcastParams", broadcast),
        ("ChannelParams", of_room.clone()),
        ("ChannelsParams", channels()),
        ("CloseFrame", close()),
        (
            "DisconnectParams",
            meant(&["user", "client", "room"], "room"),
        ),
        ("EndParams", of_room.clone()),
        ("HistoryParams", of_room),
        ("HistoryParams", history()),
        ("Position", position()),
        ("PublishParams", message),
        ("PublishParams", publish),
        ("RefreshParams", meant(&["user", "client"], "")),
        ("RefreshParams", refresh()),
        ("RpcParams", rpc()),
        ("UnsubscribeParams", meant(&["user", "client"], "channel")),
    ]
}

fn channel() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": CHANNEL_BYTES_MAX,
        "pattern": "^[ -~]+$",
        "examples": ["news:today"],
    })
}

/// A text that is given: it is neither `null` nor empty.
fn given(name: &str) -> Value {
    json!({
        "required": [name],
        "properties": { (name): { "type": "string", "minLength": 1 } },
    })
}

fn message() -> Value {
    json!({
        "properties": {
            "b64data": { "contentEncoding": "base64", "pattern": BASE64 },
            "idempotency_key": { "maxLength": IDEMPOTENCY_KEY_BYTES_MAX },
            "version": { "maximum": u64::MAX },
            "version_epoch": { "maxLength": VERSION_EPOCH_BYTES_MAX },
        },
        "anyOf": [{ "required": ["data"] }, given("b64data")],
    })
}

fn batch(limits: &ApiLimits) -> Value {
    json!({ "properties": { "commands": { "maxItems": limits.batch } } })
}

fn channels() -> Value {
    json!({ "properties": { "pattern": { "maxLength": CHANNEL_PATTERN_BYTES_MAX } } })
}

fn close() -> Value {
    let between = |least: u16, most: u16| json!({ "minimum": least, "maximum": most });
    json!({
        "required": ["code"],
        "properties": {
            "code": {
                "anyOf": [between(1000, 1003), between(1007, 1014), between(3001, 4999)],
            },
            "reason": { "maxLength": CLOSE_REASON_BYTES_MAX },
        },
    })
}

fn history() -> Value {
    json!({ "properties": { "limit": { "minimum": i64::MIN, "maximum": i64::MAX } } })
}

fn position() -> Value {
    json!({ "properties": { "offset": { "maximum": u64::MAX } } })
}

fn refresh() -> Value {
    json!({ "properties": { "expire_at": { "minimum": i64::MIN, "maximum": i64::MAX } } })
}

fn rpc() -> Value {
    let method = json!({
        "pattern": format!("^.+\\.[^.]{{1,{METHOD_BYTES_MAX}}}$"),
        "examples": ["chat:42.rename"],
    });
    json!({ "required": ["method"], "properties": { "method": method } })
}

/// The connections of one of these names at least, and in a room where the name of one is given.
fn meant(any: &[&str], room: &str) -> Value {
    let any: Vec<_> = any.iter().map(|name| given(name)).collect();
    let mut bounds = json!({ "properties": { "session": { "maxLength": 0 } }, "anyOf": any });
    if !room.is_empty() {
        bounds["properties"][room] =
            json!({ "maxLength": CHANNEL_BYTES_MAX, "pattern": "^[ -~]*$" });
    }
    bounds
}
