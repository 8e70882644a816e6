//! Examples of calls, for rooms of a kind `news` with a history and presence, and of answers.

use serde_json::{Value, json};

use crate::caller::Method;

const EPOCH: &str = "00abcdef01234567";

/// Parameters that a method takes.
pub(super) fn params(method: Method) -> Value {
    let room = json!({ "channel": "news:today" });
    match method {
        Method::Batch => json!({ "commands": [
            { "publish": { "channel": "news:today", "data": 1, "idempotency_key": "order-17" } },
            { "info": {} },
        ] }),
        Method::Broadcast => {
            json!({ "channels": ["news:today", "news:sports"], "data": { "headline": "Goal" } })
        }
        Method::Channels => json!({ "pattern": "news:*" }),
        Method::Disconnect => {
            json!({ "user": "ann", "disconnect": { "code": 4000, "reason": "bye" } })
        }
        Method::End => json!({ "channel": "news:yesterday", "data": { "count": 3 } }),
        Method::History => json!({ "channel": "news:today", "limit": 10, "reverse": true }),
        Method::HistoryRemove | Method::Presence | Method::PresenceStats => room,
        Method::Info | Method::Subscribe => json!({}),
        Method::Publish => json!({
            "channel": "news:today",
            "data": { "headline": "It works" },
            "tags": { "desk": "sports" },
        }),
        Method::Refresh => json!({ "user": "ann", "expired": true }),
        Method::Rpc => json!({ "method": "chat:42.rename", "params": { "title": "Tea" } }),
        Method::Unsubscribe => json!({ "user": "ann", "channel": "news:today" }),
    }
}

/// An answer of a method.
pub(super) fn answer(method: Method) -> Value {
    let at = |offset: u64| json!({ "result": { "offset": offset, "epoch": EPOCH } });
    match method {
        Method::Batch => {
            json!({ "replies": [{ "publish": at(4)["result"] }, { "info": info() }] })
        }
        Method::Broadcast => json!({ "result": { "responses": [at(2), at(1)] } }),
        Method::Channels => {
            json!({ "result": { "channels": { "news:today": { "num_clients": 1 } } } })
        }
        Method::Disconnect | Method::HistoryRemove | Method::Refresh | Method::Unsubscribe => {
            json!({ "result": {} })
        }
        Method::End => at(3),
        Method::History => json!({ "result": {
            "publications": [{
                "data": { "headline": "It works" },
                "offset": 1,
                "tags": { "desk": "sports" },
            }],
            "epoch": EPOCH,
            "offset": 1,
        } }),
        Method::Info => json!({ "result": info() }),
        Method::Presence => json!({ "result": {
            "presence": { "7": { "client": "7", "user": "ann" } },
        } }),
        Method::PresenceStats => json!({ "result": { "num_clients": 1, "num_users": 1 } }),
        Method::Publish => at(1),
        Method::Rpc => json!({ "result": { "data": { "title": "Tea" } } }),
        Method::Subscribe => {
            refused("not available: a connection has one room, which its client chooses")
        }
    }
}

fn refused(why: &str) -> Value {
    json!({ "error": { "code": 108, "message": why } })
}

fn info() -> Value {
    json!({ "nodes": [{
        "uid": "0123456789abcdef",
        "name": "busline",
        "version": env!("CARGO_PKG_VERSION"),
        "num_clients": 1,
        "num_users": 1,
        "num_subs": 1,
        "num_channels": 1,
        "uptime": 3600,
        "metrics": { "interval": 0, "items": {} },
    }] })
}
