//! The right of a client to send, by the rule of its kind, by its grant, and by a fresh token.

use busline::authorize::{Authorize, ConnectRequest, Denied, Grant, JoinRequest};
use busline::identity::{Identity, Token};
use busline::limits::{Payload, Publish, RelayPolicy};
use busline::session::{Admission, Subprotocol};
use busline::{Peer as Who, ServicePolicy};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;

/// Reads a right from the end of a token: `ann+` may send, `ann-` may not, `ann` may as its kind
/// says.
struct Rights;

impl Authorize for Rights {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        let token = request.token.as_ref().map_or("", Token::reveal);
        let identity = Identity {
            subject: Some(token.trim_end_matches(['+', '-']).into()),
            claims: Some(token.into()),
            expires: None,
        };
        ready(Ok(identity)).boxed()
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
        let grant = Grant::default();
        ready(Ok(match request.identity.claims.as_deref().unwrap_or("") {
            claims if claims.ends_with('+') => grant.publishing(true),
            claims if claims.ends_with('-') => grant.publishing(false),
            _ => grant,
        }))
        .boxed()
    }
}

fn crowd(publish: Publish, is_relay: bool) -> Crowd {
    Crowd::new(|app| {
        let app = app.authorize(Rights);
        let relay = RelayPolicy {
            publish,
            ..RelayPolicy::default()
        };
        let kind = ServicePolicy {
            publish,
            ..ServicePolicy::of_rooms()
        };
        let app = match is_relay {
            true => app.relay("news", relay),
            false => app.room_with("news", busline::service::ping, kind),
        };
        app.expect("a valid name")
    })
}

/// A client with this token in the room.
fn enter(crowd: &Crowd, token: &str) -> Peer {
    let room = crowd.app.registry().room("news", Some("1")).expect("a key");
    let mut who = Who::default();
    who.identity.subject = Some(token.trim_end_matches(['+', '-']).into());
    who.grant = match token.chars().last() {
        Some('+') => Grant::default().publishing(true),
        Some('-') => Grant::default().publishing(false),
        _ => Grant::default(),
    };
    let admission = Admission::request_room(&crowd.app, &room, who);
    let admission = admission.expect("admitted").speaking(Subprotocol::Json);
    let peer = crowd.serve(admission, 1 << 20);
    crowd.rt.settle();
    peer
}

#[test]
fn a_grant_goes_before_the_rule_of_the_kind() {
    for is_relay in [false, true] {
        for (publish, token, may) in [
            (Publish::Nobody, "ann", false),
            (Publish::Nobody, "ann+", true),
            (Publish::Nobody, "ann-", false),
            (Publish::Members, "ann", true),
            (Publish::Members, "ann-", false),
            (Publish::All, "ann", true),
            (Publish::All, "ann-", false),
        ] {
            let crowd = crowd(publish, is_relay);
            let [ann, bob] = [token, "bob"].map(|token| enter(&crowd, token));
            crowd.say(&ann, r#"{"text":"hello"}"#);
            let heard = texts(&bob).len();
            let expected = if may { (1, None) } else { (0, Some(4403)) };
            assert_eq!(
                (heard, closed(&ann)),
                expected,
                "{is_relay} {publish:?} {token}"
            );
        }
    }
}

#[test]
fn a_fresh_token_gives_a_right_and_takes_it() {
    let crowd = crowd(Publish::Members, true);
    let [ann, bob] = ["ann", "bob"].map(|token| enter(&crowd, token));
    crowd.say(&bob, r#"{"token":"bob-"}"#);
    crowd.say(&bob, r#"{"token":"bob+"}"#);
    crowd.say(&bob, r#"{"text":"still"}"#);
    assert_eq!(texts(&ann).len(), 1);
    crowd.say(&bob, r#"{"token":"bob-"}"#);
    crowd.say(&bob, r#"{"text":"no more"}"#);
    assert_eq!((texts(&ann).len(), closed(&bob)), (1, Some(4403)));
}

#[test]
fn a_service_takes_only_the_messages_that_its_policy_names() {
    let crowd = Crowd::new(|app| {
        let policy = ServicePolicy {
            payload: Payload::Json,
            ..ServicePolicy::default()
        };
        let app = app.service_with("s", busline::service::echo, policy);
        app.expect("a valid name")
    });
    let admission = Admission::request(&crowd.app, "s").expect("admitted");
    let peer = crowd.serve(admission, 1 << 20);
    crowd.rt.settle();
    crowd.say(&peer, "[1]");
    assert_eq!(texts(&peer), ["[1]"]);
    crowd.say(&peer, "[1");
    assert_eq!(closed(&peer), Some(1007));
}
