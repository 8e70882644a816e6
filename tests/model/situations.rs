//! Applications and sessions in situations that random runs seldom reach, driven by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busline::app::{App, RegisterError};
use busline::bus::{Client, ClientId, Message, MessageBus, Topic};
use busline::limits::LifecyclePolicy;
use busline::limits::{SlowConsumer, Window};
use busline::registry::{State, Status};
use busline::rt::Spawn;
use busline::service::{echo, ping, timenow};
use busline::session::Admission;
use busline::wire::Deflate;
use busline::{Context, Limits};
use futures::FutureExt;

use crate::model::crowd::{Crowd, texts};
use crate::model::executor::Manual;
use crate::model::peer::Said;
use crate::regressions::{World, deaf, idle, with};

fn window(messages: usize) -> Window {
    Window {
        messages: messages.try_into().expect("not zero"),
        ..Window::default()
    }
}

#[test]
fn an_application_names_its_services_in_order_and_each_once() {
    let limits = Limits {
        services: 3,
        ..Limits::default()
    };
    let mut builder = App::builder(Manual::default()).limits(limits);
    for name in ["b", "c", "a"] {
        builder = builder.service(name, idle).expect("there is room");
    }
    let app = builder.build();
    let names: Vec<_> = app.registry().names().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(app.limits().services, 3);
    assert_eq!(
        app.registry().name("b").map(ToString::to_string),
        Some("b".into())
    );
    assert_eq!(app.registry().name("d"), None);
}

#[test]
fn a_service_that_blocks_its_thread_is_told_of() {
    let rt = Manual::default();
    let clock = rt.clone();
    let blocks = move |mut ctx: Context| {
        let clock = clock.clone();
        async move {
            while let Some(message) = ctx.recv().await {
                let millis = message.as_text().and_then(|text| text.parse().ok());
                clock.block(Duration::from_millis(millis.unwrap_or_default()));
                ctx.reply(&message, &message);
            }
        }
    };
    let mut crowd = Crowd::on(rt, |app| app.service("s", blocks).expect("a valid name"));
    let peer = crowd.join(1 << 20);
    let blocked = |crowd: &Crowd| {
        crowd
            .app
            .registry()
            .status("s")
            .map(|status| status.blocked)
    };
    for (millis, times) in [("0", 0), ("99", 0), ("100", 1), ("5000", 2), ("1", 2)] {
        peer.send(true, 1, millis.as_bytes());
        crowd.rt.settle();
        assert_eq!(blocked(&crowd), Some(times), "{millis} ms");
    }
}

#[test]
fn the_time_from_a_publish_to_its_write_is_counted() {
    let mut crowd = Crowd::limited(Limits::default());
    crowd.wait(1_000);
    let peer = crowd.join(0);
    peer.send(true, 1, b"question");
    crowd.rt.settle();
    crowd.wait(10);
    peer.make_room(1 << 20);
    crowd.rt.settle();
    let counts = crowd.app.counts().sessions.written_after;
    assert_eq!((counts.count(), counts.sum), (1, Duration::from_millis(10)));
}

#[test]
fn a_service_that_is_told_to_stop_gets_what_was_said_before() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heard);
    let listens = move |mut ctx: Context| {
        let heard = Arc::clone(&counted);
        async move {
            while ctx.recv().await.is_some() {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let mut crowd = Crowd::new(|app| app.service("s", listens).expect("a valid name"));
    let peer = crowd.join(1 << 20);
    // All of it comes at once: the session hands the messages over, and leaves.
    (0..3).for_each(|_| peer.send(true, 1, b"said before"));
    peer.end();
    crowd.rt.settle();
    assert_eq!(heard.load(Ordering::Relaxed), 3);
    assert_eq!(
        crowd.app.registry().status("s").map(|s| s.state),
        Some(State::Stopped)
    );
}

#[test]
fn what_is_compressed_is_taken_from_those_with_whom_that_is_agreed_on() {
    // RFC 7692 7.2.3.1: "Hello".
    const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    const COMPRESSED_TEXT: u8 = 0x41;
    for (agreed, said) in [
        (true, Said::Text("Hello".into())),
        (false, Said::Close(Some(1002))),
    ] {
        let mut crowd = Crowd::limited(Limits::default());
        let offer = agreed.then_some("permessage-deflate");
        let peer = crowd.join_by(1 << 20, |admission| {
            admission.compressing(Deflate::negotiate(offer))
        });
        peer.send(true, COMPRESSED_TEXT, HELLO);
        crowd.rt.settle();
        assert_eq!(peer.said(), [said]);
    }
}

#[test]
fn the_last_crash_is_remembered_and_no_better_end_is() {
    async fn crashes(mut ctx: Context) {
        let message = ctx.recv().await;
        assert!(message.is_none(), "on purpose");
    }
    let mut crowd = Crowd::new(|app| app.service("s", crashes).expect("a valid name"));
    let peer = crowd.join(1 << 20);
    assert_eq!(crowd.app.registry().last_crash("s"), None);
    peer.send(true, 1, b"now");
    crowd.rt.settle();
    let last = |crowd: &Crowd| crowd.app.registry().last_crash("s").expect("it crashed");
    let first = last(&crowd);
    assert_eq!(first.generation.number(), 1);
    assert!(first.reason.contains("on purpose"), "{}", first.reason);
    peer.end();
    crowd.wait(60_000);
    assert_eq!(last(&crowd), first);
}

#[test]
fn new_policies_are_for_those_who_come_after() {
    let mut crowd = Crowd::limited(Limits::default());
    let before = crowd.join(1 << 20);
    let app = crowd.app.clone();
    let mut policies = (*app.policies()).clone();
    policies.limits = Arc::new(Limits {
        message_bytes: 4,
        ..Limits::default()
    });
    app.replace_policies(policies);
    let after = crowd.join(1 << 20);
    for peer in [&before, &after] {
        peer.send(true, 1, b"12345");
    }
    crowd.rt.settle();
    assert_eq!(before.said(), [Said::Text("12345".into())]);
    assert_eq!(after.said(), [Said::Close(Some(1009))]);
}

#[test]
fn a_service_that_cannot_be_registered_is_refused_with_the_reason() {
    let limits = Limits {
        services: 1,
        ..Limits::default()
    };
    let builder = || {
        App::builder(Manual::default())
            .limits(limits.clone())
            .service("a", idle)
            .expect("there is room")
    };
    let refused = |name: &str| builder().service(name, idle).err();
    assert!(matches!(
        refused("A"),
        Some(RegisterError::BadName { name, .. }) if name == "A"
    ));
    assert!(matches!(refused("a"), Some(RegisterError::Duplicate(name)) if name.as_str() == "a"));
    assert_eq!(refused("b"), Some(RegisterError::TooMany { max: 1 }));
}

#[test]
fn clients_are_numbered_from_one_and_sessions_counted_to_their_end() {
    let world = World::new(with(idle), 1 << 20);
    let second = Admission::request(&world.app, "s").expect("admitted");
    assert_eq!(second.client(), ClientId::new(2));
    assert_eq!(
        (world.app.sessions_open(), world.app.sessions_closed()),
        (2, 0)
    );
    drop(second);
    assert_eq!(
        (world.app.sessions_open(), world.app.sessions_closed()),
        (1, 0)
    );
    world.peer.reset();
    world.rt.settle();
    assert_eq!(
        (world.app.sessions_open(), world.app.sessions_closed()),
        (0, 1)
    );
}

#[test]
fn a_drain_waits_for_the_last_session_to_close_its_socket() {
    let world = World::new(with(idle), 0);
    let tasks = world.rt.tasks();
    let app = world.app.clone();
    world.app.drain();
    world.rt.spawn(async move { app.drained().await }.boxed());
    world.rt.settle();
    let status = world.app.registry().status("s").expect("registered");
    assert!(status.is_idle(), "no instance is left: {status:?}");
    assert_eq!(
        world.rt.tasks(),
        tasks,
        "the instance is gone, the drain is there"
    );
    world.rt.advance(world.app.limits().close_timeout);
    assert_eq!(world.rt.tasks(), 0, "the drain is over");
}

#[test]
fn what_was_published_before_a_drain_is_sent_before_the_close() {
    let world = World::new(with(idle), 1 << 20);
    world.publish(Message::text("before"));
    world.app.drain();
    world.rt.settle();
    let expected = [Said::Text("before".into()), Said::Close(Some(1001))];
    assert_eq!(world.peer.said(), expected);
}

#[test]
fn a_drain_waits_for_the_last_lease() {
    let rt = Manual::default();
    let app = with(idle)(App::builder(rt.clone())).build();
    let lease = app.registry().join("s").expect("not refused");
    rt.settle();
    let other = app.clone();
    app.drain();
    assert!(matches!(lease.status(), Status::Draining(_)));
    rt.spawn(async move { other.drained().await }.boxed());
    rt.settle();
    assert_eq!(rt.tasks(), 2, "the instance and the drain");
    drop(lease);
    rt.settle();
    assert_eq!(rt.tasks(), 0);
}

#[test]
fn an_error_after_the_word_to_stop_is_a_crash_and_a_return_is_none() {
    for (fails, crashes) in [(true, 1), (false, 0)] {
        let rt = Manual::default();
        let service = move |mut ctx: Context| async move {
            while ctx.recv().await.is_some() {}
            if fails { Err("planned") } else { Ok(()) }
        };
        let app = App::builder(rt.clone())
            .service("s", service)
            .expect("a valid name")
            .build();
        drop(app.registry().join("s").expect("not refused"));
        rt.settle();
        let status = app.registry().status("s").expect("registered");
        assert_eq!((status.counts.exits, status.counts.crashes), (1, crashes));
        assert_eq!(status.state == State::Stopped, !fails);
    }
}

#[test]
fn a_deadline_that_is_nearer_than_the_timer_is_kept() {
    let limits = Limits {
        accept_timeout: Duration::from_secs(5),
        window: window(1),
        ..Limits::default()
    };
    let world = World::new(
        |builder| with(deaf)(builder.limits(limits.clone())),
        1 << 20,
    );
    world.rt.advance(Duration::from_secs(1));
    for text in ["in the inbox", "at hand"] {
        world.peer.send(true, 1, text.as_bytes());
    }
    world.rt.advance(Duration::from_millis(4_999));
    assert_eq!(world.peer.said(), []);
    world.rt.advance(Duration::from_millis(1));
    assert_eq!(world.peer.said(), [Said::Close(Some(1013))]);
}

#[test]
fn a_client_that_is_too_slow_is_closed_or_skipped_as_the_policy_says() {
    for (policy, expected) in [
        (SlowConsumer::Close, vec![Said::Close(Some(1013))]),
        (SlowConsumer::Skip, vec![Said::Text("2".into())]),
    ] {
        let limits = Limits {
            window: window(1),
            ..Limits::default()
        };
        let world = World::new(
            |builder| with(idle)(builder.limits(limits.clone()).slow_consumer(policy)),
            1 << 20,
        );
        for n in 0..3 {
            world.publish(Message::text(n.to_string()));
        }
        world.rt.settle();
        assert_eq!(world.peer.said(), expected, "{policy:?}");
        assert_eq!(world.app.counts().bus.messages.lost_lagged, 2);
    }
}

#[test]
fn timenow_tells_the_time_on_its_raster_and_leaves_out_what_a_pause_hides() {
    let world = World::new(
        |builder| builder.service("s", timenow).expect("a valid name"),
        1 << 20,
    );
    let time = |second: u32| format!("1970-01-01T00:00:{second:02}Z");
    assert_eq!(world.texts(), [time(0)]);
    world.rt.advance(Duration::from_secs(3));
    assert_eq!(world.texts(), [0, 2].map(time));
    world.rt.pause(Duration::from_secs(6));
    world.rt.advance(Duration::from_secs(3));
    assert_eq!(world.texts(), [0, 2, 9, 10, 12].map(time));
}

#[test]
fn ping_and_echo_answer() {
    for service in [false, true] {
        let world = World::new(
            |builder| {
                let built = if service {
                    builder.service("s", ping)
                } else {
                    builder.service("s", echo)
                };
                built.expect("a valid name")
            },
            1 << 20,
        );
        world.peer.send(true, 1, b"hello");
        world.rt.settle();
        assert_eq!(world.texts(), ["hello"]);
    }
}

/// Tells everybody the number of everybody, its generation and what it has lost.
async fn accountant(mut ctx: Context) {
    while ctx.recv().await.is_some() {
        let everybody = ctx.publish("");
        ctx.publish(format!("{everybody} {} {}", ctx.generation(), ctx.lost()));
    }
}

#[test]
fn a_service_is_told_how_many_it_reaches_and_how_much_it_has_lost() {
    let limits = Limits {
        window: window(2),
        ..Limits::default()
    };
    let world = World::new(
        |builder| with(accountant)(builder.limits(limits.clone())),
        1 << 20,
    );
    let service = world.app.registry().name("s").expect("registered");
    let inbox = Topic::from_ws_to_service(service);
    for lost in [3, 6] {
        for _ in 0..5 {
            world.app.bus().publish(&inbox, "".into());
        }
        world.rt.settle();
        assert_eq!(world.texts().last(), Some(&format!("1 1 {lost}")));
    }
}

/// Tells the first client what others say, as long as it is there.
async fn tells_the_first(mut ctx: Context) {
    let mut first: Option<Client> = None;
    while let Some(message) = ctx.recv().await {
        let sender = message.sender().expect("a client's").clone();
        let reached = ctx.send_to(first.get_or_insert(sender), &message);
        ctx.publish(format!("{reached} told"));
    }
}

#[test]
fn a_service_sends_to_a_client_that_it_remembers_until_that_leaves() {
    let mut crowd = Crowd::new(|app| app.service("s", tells_the_first).expect("a name"));
    let (first, other) = (crowd.join(1 << 20), crowd.join(1 << 20));
    for (peer, text) in [(&first, "mine"), (&other, "yours")] {
        peer.send(true, 1, text.as_bytes());
        crowd.rt.settle();
    }
    assert_eq!(texts(&first), ["mine", "1 told", "yours", "1 told"]);
    first.reset();
    crowd.rt.settle();
    other.send(true, 1, b"to nobody");
    crowd.rt.settle();
    assert_eq!(texts(&other), ["1 told", "1 told", "0 told"]);
}

#[test]
fn a_ping_is_answered_at_once_and_sent_at_its_time() {
    let world = World::new(with(idle), 1 << 20);
    world.peer.send(true, 9, b"?");
    world.rt.settle();
    let expected = [Said::Pong(b"?".to_vec()), Said::Ping];
    assert_eq!(world.peer.said(), expected[..1]);
    world.rt.advance(Duration::from_millis(24_999));
    assert_eq!(world.peer.said(), expected[..1]);
    world.rt.advance(Duration::from_millis(1));
    assert_eq!(world.peer.said(), expected);
    assert_eq!(world.app.counts().sessions.pings, 1);
}

/// Answers each message twice.
async fn twice(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        ctx.reply(&message, &message);
        ctx.reply(&message, &message);
    }
}

#[test]
fn a_message_waits_for_earlier_answers_exactly_as_long_as_it_may() {
    let limits = Limits {
        outbox_bytes: 1,
        ..Limits::default()
    };
    let world = World::new(|builder| with(twice)(builder.limits(limits.clone())), 0);
    // One answer waits for the socket, and one behind it.
    world.peer.send(true, 1, b"first");
    world.rt.settle();
    world.peer.send(true, 1, b"second");
    let published = || world.app.counts().bus.messages.published;
    world.rt.advance(Duration::from_millis(9_999));
    assert_eq!(published(), 3, "one question, two answers");
    world.rt.advance(Duration::from_millis(1));
    assert_eq!(published(), 6);
}

#[test]
fn an_instance_without_grace_is_aborted_when_its_linger_ends() {
    let rt = Manual::default();
    let policy = LifecyclePolicy {
        linger: Duration::from_secs(1),
        stop_grace: Duration::ZERO,
        ..LifecyclePolicy::default()
    };
    let app = with(hangs)(App::builder(rt.clone()).lifecycle(policy)).build();
    drop(app.registry().join("s").expect("not refused"));
    // Both deadlines are the same moment.
    rt.advance(Duration::from_secs(1));
    let status = app.registry().status("s").expect("registered");
    assert_eq!((status.state, status.counts.aborts), (State::Stopped, 1));
    assert_eq!((rt.tasks(), rt.timers()), (0, 0));
}

pub(crate) async fn hangs(_ctx: Context) {
    std::future::pending::<()>().await;
}

#[test]
fn the_exit_of_an_instance_is_reported_once_however_it_ends() {
    for shut_down in [false, true] {
        let rt = Manual::default();
        let app = with(idle)(App::builder(rt.clone())).build();
        let lease = app.registry().join("s").expect("not refused");
        rt.settle();
        if shut_down {
            rt.shut_down();
        } else {
            drop(lease);
            rt.settle();
        }
        let counts = app.registry().status("s").expect("registered").counts;
        assert_eq!((counts.starts, counts.exits, counts.stale), (1, 1, 0));
    }
}
