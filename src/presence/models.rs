//! Clients that join and leave at once against the notices that one of them reads.

use std::sync::Arc as StdArc;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use futures::future::{BoxFuture, pending};
use loom::thread;

use super::*;
use crate::bus::{InMemoryMessageBus, Received, ServiceName, Subscription};
use crate::limits::{Tell, Window};
use crate::rt::{Clock, Random, Sleep, Spawn};
use crate::sync::model;

/// A runtime in which no time passes and no task runs: nothing waits here.
#[derive(Clone)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Instant) -> Sleep {
        Box::pin(pending())
    }
}

impl Spawn for Still {
    fn spawn(&self, _: BoxFuture<'static, ()>) {
        unreachable!("no notice waits");
    }
}

impl Random for Still {
    fn random(&self) -> u64 {
        7
    }
}

/// The presence of a room, and a subscription to its notices.
fn presence() -> (Arc<Presence<Still>>, Subscription) {
    let kind: ServiceName = "s".parse().expect("a name");
    let room = Room::from(&kind);
    let bus = InMemoryMessageBus::new(Window::default(), 4);
    let topic = Topic::from_presence_to_ws(&room);
    let notices = bus.subscribe(&topic).expect("there is room");
    let setting = Setting {
        policy: PresencePolicy {
            tell: Tell::All,
            ..PresencePolicy::default()
        },
        limits: PresenceLimits::default(),
        bus: StdArc::new(bus),
        rt: Still,
        counts: Counts::default(),
    };
    let presence = Presence::new(&room, &StdArc::new(setting));
    (presence.expect("it is kept"), notices)
}

fn enter(presence: &Arc<Presence<Still>>, id: u64) {
    let entering = Entering {
        id: ClientId::new(id),
        shown: Shown::default(),
        follows: true,
    };
    presence.enter(Instant::ZERO, entering);
    Presence::tell(presence);
}

/// The notices that have come: whether each is of a join, and its client.
fn told(notices: &mut Subscription) -> Vec<(bool, u64)> {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let mut told = Vec::new();
    while let Poll::Ready(received) = notices.poll_recv(&mut cx) {
        let Received::Message(message) = received else {
            panic!("nothing is lost: {received:?}");
        };
        let text = message.as_text().expect("a text");
        let clients = (1..=3).filter(|id| text.contains(&format!("\"{id}\":")));
        told.extend(clients.map(|id| (text.starts_with("{\"joined\""), id)));
    }
    told
}

/// A client that joins and leaves, and one that joins, against each other; preemptions unbounded.
///
/// Catches: two threads that tell at once, so that a leave is told before its join; a notice that
/// is left in the queue because the thread that tells has just ended its turn.
#[test]
fn each_change_is_told_once_and_in_order() {
    model(None, || {
        let (presence, mut notices) = presence();
        enter(&presence, 1);
        let comes_and_goes = thread::spawn({
            let presence = Arc::clone(&presence);
            move || {
                enter(&presence, 2);
                presence.leave(ClientId::new(2));
                Presence::tell(&presence);
            }
        });
        enter(&presence, 3);
        comes_and_goes.join().expect("no panic");
        let told = told(&mut notices);
        let of = |id| told.iter().filter(move |(_, of)| *of == id);
        let of = |id| of(id).map(|(is_join, _)| *is_join).collect::<Vec<_>>();
        assert_eq!(
            [of(1), of(2), of(3)],
            [vec![true], vec![true, false], vec![true]]
        );
        assert_eq!(told[0], (true, 1));
    });
}
