//! Clients that read more slowly than their service publishes.

use std::num::NonZeroUsize;

use busline::Limits;
use busline::bus::TopicCounts;
use busline::limits::{SlowConsumer, Window};
use busline::service::ping;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::raw::{Raw, TEXT, frame, wish};
use crate::server::Server;

/// Large, so that a few hundred fill the socket buffers of the system.
const MESSAGE_BYTES: usize = 60_000;

/// Most that those buffers take, by far.
const MESSAGES_MAX: usize = 1000;

async fn narrow(policy: SlowConsumer) -> Server {
    let limits = Limits {
        window: Window {
            messages: NonZeroUsize::new(4).expect("4 is not 0"),
            ..Window::default()
        },
        ..Limits::default()
    };
    let parts = |app: busline::app::Builder<_>| {
        app.limits(limits)
            .slow_consumer(policy)
            .service("ping", ping)
    };
    Server::start(parts).await
}

/// Sends to everybody, and receives each itself, until the other one has lost some.
async fn publish_until_lost(server: &Server, quick: &mut Client) {
    let payload = vec![7; MESSAGE_BYTES];
    for _ in 0..MESSAGES_MAX {
        quick.send(payload.clone()).await;
        assert_eq!(
            quick.next().await,
            Message::binary(payload.clone()),
            "the quick one gets all"
        );
        if messages(server).lost_lagged >= 10 {
            return;
        }
    }
    panic!("the slow client lost nothing: {:?}", messages(server));
}

/// The bus's counts, which must add up at any moment.
fn messages(server: &Server) -> TopicCounts {
    let counts = server.app().counts().bus.messages;
    let known = counts.delivered + counts.lost_lagged + counts.lost_unsubscribed + counts.pending;
    assert_eq!(counts.owed, known, "{counts:?}");
    counts
}

#[tokio::test]
async fn a_client_may_ask_for_json() {
    let server = Server::standard().await;
    let mut raw = Raw::connect(&server).await;
    let end = "\r\nSec-WebSocket-Protocol: chat, busline.v1.json\r\n\r\n";
    let wish = wish("/ws/echo").replace("\r\n\r\n", end);
    raw.send(wish.as_bytes()).await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(
        head.contains("\r\nsec-websocket-protocol: busline.v1.json\r\n"),
        "{head}"
    );
    let text = br#"{"text":"hello"}"#;
    raw.send(&frame(TEXT, text)).await;
    assert_eq!(raw.frame().await, (TEXT, text.to_vec()));
    let mut plain = Client::connect(&server, "echo").await;
    plain.round_trip("hello").await;
}

#[tokio::test]
async fn a_client_that_never_reads_slows_nobody_and_its_losses_are_counted() {
    let server = narrow(SlowConsumer::Skip).await;
    let mut quick = Client::connect(&server, "ping").await;
    let slow = Raw::join_narrow(&server, "ping").await;
    publish_until_lost(&server, &mut quick).await;
    assert_eq!(server.status("ping").clients, 2, "the slow one stays");
    slow.kill();
    quick.close(1000, "").await;
    server
        .until("all sessions are gone", |server| {
            server.app().sessions_open() == 0
        })
        .await;
    assert_eq!(messages(&server).pending, 0);
}

#[tokio::test]
async fn a_slow_client_that_is_skipped_reads_on_with_what_is_newest() {
    let server = narrow(SlowConsumer::Skip).await;
    let mut quick = Client::connect(&server, "ping").await;
    let mut slow = Raw::join_narrow(&server, "ping").await;
    publish_until_lost(&server, &mut quick).await;
    quick.round_trip("the newest").await;
    loop {
        if slow.frame().await == (TEXT, b"the newest".to_vec()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_slow_client_is_closed_with_1013_and_told_its_losses_where_that_is_the_policy() {
    let server = narrow(SlowConsumer::Close).await;
    let mut quick = Client::connect(&server, "ping").await;
    let mut slow = Raw::join_narrow(&server, "ping").await;
    publish_until_lost(&server, &mut quick).await;
    let (code, reason) = slow.closed().await;
    assert_eq!(code, 1013);
    let lost = messages(&server).lost_lagged;
    assert_eq!(reason, format!("slow consumer: {lost} messages lost"));
    assert_eq!(slow.end().await, b"");
    quick.round_trip("unmoved").await;
}
