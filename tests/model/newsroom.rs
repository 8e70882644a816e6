//! Rooms of the kind `news` with a history, their clients, and what these are told.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::bus::Reading;
use busline::limits::{HistoryPolicy, Publish, RelayPolicy, Retention, Window};
use busline::session::{Admission, AdmitError, Asking, Subprotocol, Wish};
use busline::{App, Context, Limits, Peer as Who, ServicePolicy};
use serde_json::Value;

use crate::model::crowd::{Crowd, texts};
use crate::model::executor::Manual;
use crate::model::peer::Peer;

/// A history of four messages, for ten seconds.
pub(crate) const RETENTION: Retention = Retention {
    messages: NonZeroUsize::new(4).expect("not 0"),
    bytes: 1 << 20,
    ttl: Duration::from_secs(10),
    recovery_max: Some(3),
};

/// The policy of a relay in which every client may publish.
pub(crate) fn policy(history: HistoryPolicy, echo: bool) -> ServicePolicy {
    let relay = RelayPolicy {
        publish: Publish::Members,
        echo,
        ..RelayPolicy::default()
    };
    ServicePolicy::of_relay(relay).with_history(history)
}

pub(crate) fn crowd(policy: ServicePolicy) -> Crowd {
    Crowd::new(|app| app.relay_with("news", policy).expect("a valid policy"))
}

pub(crate) fn asked() -> Crowd {
    crowd(policy(RETENTION.into(), true))
}

pub(crate) fn admit(app: &App<Manual>, asking: Asking) -> Result<Admission<Manual>, AdmitError> {
    let room = app.registry().room("news", Some("a")).expect("a key");
    Admission::request_wishing(app, &room, Who::default(), asking)
}

/// A client with this wish, whose socket takes so many bytes.
pub(crate) fn enter(crowd: &Crowd, subprotocol: Subprotocol, wish: Wish, bytes: usize) -> Peer {
    let admission = admit(
        &crowd.app,
        Asking {
            subprotocol,
            wish,
            join_leave: false,
        },
    )
    .expect("admitted");
    let peer = crowd.serve(admission, bytes);
    crowd.rt.settle();
    peer
}

/// A client of `busline.v1.json` that shows this position, if there is one.
pub(crate) fn json(crowd: &Crowd, since: Option<&str>) -> Peer {
    let since = since.map(|since| since.parse().expect("a position"));
    let wish = Wish { since, last: 0 };
    enter(crowd, Subprotocol::Json, wish, 1 << 20)
}

/// All that the client was told, as JSON.
pub(crate) fn told(peer: &Peer) -> Vec<Value> {
    let all = texts(peer).into_iter();
    all.map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

/// Publishes from outside.
pub(crate) fn record(crowd: &Crowd, text: &str) -> String {
    let room = crowd.app.room("news", "a").expect("a key");
    let position = room.record(text).expect("it has a history");
    crowd.rt.settle();
    position.to_string()
}

pub(crate) fn epoch(crowd: &Crowd) -> String {
    let room = crowd.app.room("news", "a").expect("a key");
    room.position().expect("a history").epoch.to_string()
}

/// The same relay in an application with these limits.
pub(crate) fn limited(limits: Limits) -> Crowd {
    Crowd::new(|app| {
        let app = app.limits(limits);
        let app = app.relay_with("news", policy(RETENTION.into(), true));
        app.expect("a valid policy")
    })
}

/// Publishes each text that a client says, live alone if it is `live`, and answers with the number
/// of messages in the history and its offset.
pub(crate) async fn chronicle(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        match message.as_text() {
            Some("live") => ctx.publish_live("typing"),
            Some("crash") => panic!("on purpose"),
            _ => ctx.publish(&message),
        };
        let all = Reading {
            since: None,
            limit: 9,
            reverse: false,
        };
        let kept = ctx.history(&all).map(|page| page.messages.len());
        let offset = ctx.position().map(|position| position.offset);
        let answer = format!("{kept:?} {offset:?}");
        ctx.reply(&message, answer);
    }
}

/// A room whose service knows its members, so that all is said in one order, with a window of two.
pub(crate) fn narrow_room(retention: Retention) -> Crowd {
    let window = Window {
        messages: NonZeroUsize::new(2).expect("not 0"),
        bytes: 1 << 20,
    };
    let policy = ServicePolicy {
        window: Some(window),
        ..ServicePolicy::of_rooms().with_history(retention)
    };
    Crowd::new(|app| {
        let app = app.room_with("news", chronicle, policy);
        app.expect("a valid policy")
    })
}
