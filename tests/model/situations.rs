//! Applications and sessions in situations that random runs seldom reach, driven by hand.

use std::time::Duration;

use busline::app::{App, RegisterError};
use busline::bus::{ClientId, Message};
use busline::limits::{SlowConsumer, Window};
use busline::registry::{State, Status};
use busline::rt::Spawn;
use busline::session::Admission;
use busline::{Context, Limits};
use futures::FutureExt;

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
fn a_drain_waits_for_the_last_lease() {
    let rt = Manual::default();
    let app = with(idle)(App::builder(rt.clone())).build();
    let lease = app.registry().join("s").expect("not refused");
    rt.settle();
    let other = app.clone();
    app.drain();
    assert_eq!(lease.status(), Status::Draining);
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
        (
            SlowConsumer::Close,
            vec![Said::Text("2".into()), Said::Close(Some(1013))],
        ),
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
