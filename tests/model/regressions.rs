//! Sessions in situations that once went wrong, on a socket and a runtime driven by hand.

use std::task::{self, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use busline::app::{App, Builder};
use busline::bus::{Generation, Message, MessageBus, Origin, Topic};
use busline::rt::Spawn;
use busline::service::echo;
use busline::session::{Admission, Session};
use busline::{Context, Limits};
use futures::FutureExt;

use crate::model::executor::Manual;
use crate::model::peer::{Peer, Said};

/// A client of the service `s`, with all the room it wants unless it is told otherwise.
pub(crate) struct World {
    pub(crate) rt: Manual,
    pub(crate) app: App<Manual>,
    pub(crate) peer: Peer,
}

impl World {
    pub(crate) fn new(service: impl Fn(Builder<Manual>) -> Builder<Manual>, room: usize) -> Self {
        let rt = Manual::default();
        let app = service(App::builder(rt.clone())).build();
        let admission = Admission::request(&app, "s").expect("admitted");
        let peer = Peer::default();
        peer.make_room(room);
        let session = Session::new(admission, peer.socket());
        rt.spawn(session.map(drop).boxed());
        rt.settle();
        Self { rt, app, peer }
    }

    pub(crate) fn publish(&self, message: Message) {
        let service = self.app.registry().name("s").expect("registered");
        self.app
            .bus()
            .publish(&Topic::from_service_to_ws(service), message.into());
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |said| match said {
            Said::Text(text) => Some(text),
            Said::Binary(_) | Said::Close(_) | Said::Ping | Said::Pong(_) => None,
        };
        self.peer.said().into_iter().filter_map(text).collect()
    }
}

pub(crate) async fn idle(mut ctx: Context) {
    while ctx.recv().await.is_some() {}
}

pub(crate) fn with<F, Fut>(service: F) -> impl Fn(Builder<Manual>) -> Builder<Manual>
where
    F: Fn(Context) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    move |builder| builder.service("s", service).expect("a valid name")
}

#[test]
fn a_message_of_an_older_instance_does_not_put_the_session_to_sleep() {
    let world = World::new(with(idle), 1 << 20);
    let older = Origin::Service(Generation::new(0));
    world.publish(Message::text("not for you").from_origin(older));
    world.rt.settle();
    world.publish(Message::text("for you"));
    world.rt.settle();
    assert_eq!(world.texts(), ["for you"]);
    assert_eq!(world.app.counts().sessions.stale, 1);
}

#[test]
fn a_session_that_moves_to_another_task_is_told_there_of_what_its_client_sends() {
    for before in 1..5 {
        let limits = Limits {
            inbound_batch: 1.try_into().expect("not zero"),
            ..Limits::default()
        };
        let world = World::new(|builder| with(echo)(builder.limits(limits.clone())), 0);
        let peer = Peer::default();
        peer.make_room(1 << 20);
        let admission = Admission::request(&world.app, "s").expect("admitted");
        let mut session = Session::new(admission, peer.socket());
        // Read at once, and taken in one by one.
        peer.send(true, 1, b"first");
        peer.send(true, 1, b"second");
        // By a task that is never polled for it again.
        for _ in 0..before {
            assert!((&mut session).now_or_never().is_none());
            world.rt.settle();
        }
        world.rt.spawn(session.map(drop).boxed());
        world.rt.settle();
        peer.send(true, 1, b"third");
        world.rt.settle();
        let heard = ["first", "second", "third"].map(|text| Said::Text(text.to_owned()));
        assert_eq!(peer.said(), heard, "after {before} polls");
    }
}

#[test]
fn a_session_that_moves_to_another_task_is_told_there_of_what_is_due() {
    for moves in [false, true] {
        let world = World::new(with(echo), 0);
        let peer = Peer::default();
        peer.make_room(1 << 20);
        let admission = Admission::request(&world.app, "s").expect("admitted");
        let mut session = Session::new(admission, peer.socket());
        if moves {
            assert!((&mut session).now_or_never().is_none());
        }
        world.rt.spawn(session.map(drop).boxed());
        world.rt.settle();
        world.rt.advance(Duration::from_secs(60));
        let pings = peer
            .said()
            .iter()
            .filter(|said| **said == Said::Ping)
            .count();
        assert!(pings > 0, "it has moved: {moves}");
    }
}

/// A waker that no clone of it is known to wake the same task as: `will_wake` promises nothing.
fn stranger() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |at| RawWaker::new(at.wrapping_byte_add(1), &TABLE),
        |_| {},
        |_| {},
        |_| {},
    );
    // SAFETY: none of its functions looks at what the pointer points to.
    unsafe { Waker::new(std::ptr::null(), &TABLE) }
}

#[test]
fn a_session_whose_task_is_never_known_again_is_polled_to_an_end() {
    let world = World::new(with(echo), 0);
    let peer = Peer::default();
    peer.make_room(1 << 20);
    let admission = Admission::request(&world.app, "s").expect("admitted");
    let mut session = Session::new(admission, peer.socket());
    let waker = stranger();
    assert!(!waker.will_wake(&waker.clone()));
    for text in ["a", "b"] {
        peer.send(true, 1, text.as_bytes());
        for _ in 0..2 {
            let polled = session.poll_unpin(&mut task::Context::from_waker(&waker));
            assert!(polled.is_pending());
            world.rt.settle();
        }
    }
    let heard = ["a", "b"].map(|text| Said::Text(text.to_owned()));
    assert_eq!(peer.said(), heard);
}

/// Answers without end what was asked last, and "stop" with silence.
async fn stream(mut ctx: Context) {
    let mut asked: Option<Message> = None;
    loop {
        let due = ctx.now() + Duration::from_millis(10);
        match ctx.next_until(due).await {
            busline::service::Next::Message(message) if message.as_text() == Some("stop") => {
                asked = None;
            }
            busline::service::Next::Message(message) => asked = Some(message),
            busline::service::Next::Elapsed => {
                if let Some(asked) = &asked {
                    ctx.reply(asked, asked);
                }
            }
            busline::service::Next::Stopped => return,
        }
    }
}

#[test]
fn a_client_that_reads_slowly_can_still_say_stop() {
    let limits = Limits {
        outbox_bytes: 8,
        ..Limits::default()
    };
    let world = World::new(|builder| with(stream)(builder.limits(limits.clone())), 0);
    world.peer.send(true, 1, b"go");
    world.rt.advance(Duration::from_secs(1));
    world.peer.send(true, 1, b"stop");
    // It reads, but more slowly than the service answers.
    for _ in 0..12 {
        world.peer.make_room(16);
        world.rt.advance(Duration::from_secs(1));
    }
    let published = || world.app.counts().bus.messages.published;
    let before = published();
    world.rt.advance(Duration::from_secs(5));
    assert_eq!(published(), before, "the service has not heard the stop");
    assert_eq!(world.app.sessions_open(), 1);
}

#[test]
fn a_long_download_over_a_slow_link_is_no_silence() {
    let limits = Limits {
        message_bytes: 1 << 20,
        ..Limits::default()
    };
    let world = World::new(|builder| with(idle)(builder.limits(limits.clone())), 0);
    world.publish(Message::text("x".repeat(60_000)));
    // 500 s at 100 bytes a second, in which no ping can be sent.
    for _ in 0..500 {
        world.rt.advance(Duration::from_secs(1));
        world.peer.make_room(100);
    }
    assert_eq!(world.app.sessions_open(), 1, "dropped in mid-download");
    world.peer.make_room(1 << 20);
    world.rt.settle();
    assert_eq!(world.texts().len(), 1);
}

#[test]
fn a_close_that_comes_while_ours_is_stuck_is_remembered() {
    let world = World::new(with(idle), 0);
    world.publish(Message::text("before the end"));
    world.app.drain();
    world.rt.settle();
    world.peer.make_room("before the end".len() + 2);
    world.peer.send(true, 1, b"too late");
    world.peer.send(true, 8, &1000_u16.to_be_bytes());
    world.rt.settle();
    world.peer.make_room(1 << 20);
    world.rt.settle();
    assert_eq!(world.peer.said().last(), Some(&Said::Close(Some(1001))));
    assert_eq!(
        world.app.sessions_open(),
        1,
        "its peer may still be sending"
    );
    world.peer.end();
    world.rt.settle();
    assert_eq!(
        world.app.sessions_open(),
        0,
        "it waits for a close it has had"
    );
    assert_eq!(
        world.app.counts().sessions.lost_not_taken,
        1,
        "lost, but not silently"
    );
}

/// Gives its inbox away and goes on.
pub(crate) async fn deaf(mut ctx: Context) {
    while ctx.sleep(Duration::from_secs(3600)).await.is_some() {}
}

#[test]
fn a_service_that_takes_nothing_holds_its_client_no_longer_than_a_minute() {
    let limits = Limits {
        window: busline::limits::Window {
            messages: 1.try_into().expect("not zero"),
            ..busline::limits::Window::default()
        },
        ..Limits::default()
    };
    let world = World::new(
        |builder| with(deaf)(builder.limits(limits.clone())),
        1 << 20,
    );
    for text in ["in the inbox", "at hand", "in the socket"] {
        world.peer.send(true, 1, text.as_bytes());
    }
    world.rt.advance(Duration::from_secs(59));
    assert_eq!(world.app.sessions_open(), 1);
    world.rt.advance(Duration::from_secs(1));
    assert_eq!(world.peer.said().last(), Some(&Said::Close(Some(1013))));
    world.rt.advance(Duration::from_secs(10));
    assert_eq!(world.app.sessions_open(), 0);
    assert_eq!(
        world.app.counts().sessions.lost_not_taken,
        2,
        "at hand and after it"
    );
}
