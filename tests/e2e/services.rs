//! The services of the binary, as their clients know them.

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::Client;
use crate::server::{Server, soon};

#[tokio::test]
async fn what_one_sends_to_ping_reaches_everyone_in_order() {
    let server = Server::standard().await;
    let mut ada = Client::connect(&server, "ping").await;
    let mut bob = Client::connect(&server, "ping").await;
    ada.send("a1").await;
    ada.send(Bytes::from_static(b"a2\x00\xff")).await;
    let from_ada = [Message::text("a1"), Message::binary(&b"a2\x00\xff"[..])];
    for client in [&mut ada, &mut bob] {
        for expected in &from_ada {
            assert_eq!(client.next().await, *expected);
        }
    }
    bob.send(Bytes::new()).await;
    bob.send("b2").await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.next().await, Message::binary(Bytes::new()));
        assert_eq!(client.next().await, Message::text("b2"));
    }
}

#[tokio::test]
async fn everyone_sees_the_messages_of_ping_in_one_order() {
    let server = Server::standard().await;
    let mut ada = Client::connect(&server, "ping").await;
    let mut bob = Client::connect(&server, "ping").await;
    for round in 0..50 {
        ada.send(format!("a{round}")).await;
        bob.send(format!("b{round}")).await;
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        let text = ada.text().await;
        assert_eq!(bob.text().await, text);
        seen.push(text);
    }
    for sender in ["a", "b"] {
        let own: Vec<_> = seen
            .iter()
            .filter(|text| text.starts_with(sender))
            .collect();
        let sent: Vec<_> = (0..50).map(|round| format!("{sender}{round}")).collect();
        assert_eq!(own, sent.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_one_sends_to_echo_comes_back_to_that_one_alone() {
    let server = Server::standard().await;
    let mut ada = Client::connect(&server, "echo").await;
    let mut bob = Client::connect(&server, "echo").await;
    ada.round_trip("for ada").await;
    // Had it reached bob, it would come before his own.
    bob.round_trip("for bob").await;
    ada.round_trip("again").await;
}

#[tokio::test]
async fn echo_loses_nothing_of_a_flood() {
    const COUNT: u32 = 20_000;
    let server = Server::standard().await;
    let client = Client::connect(&server, "echo").await;
    let (mut writer, mut reader) = client.into_socket().split();
    let write = async {
        for number in 0..COUNT {
            let message = Message::text(number.to_string());
            writer.feed(message).await.expect("the server reads");
        }
        writer.flush().await.expect("the server reads");
    };
    let read = async {
        for number in 0..COUNT {
            let message = reader.next().await.expect("a message").expect("a message");
            assert_eq!(message, Message::text(number.to_string()));
        }
    };
    soon(futures::future::join(write, read)).await;
    assert_eq!(server.app().counts().bus.messages.lost_lagged, 0);
}

#[tokio::test]
async fn timenow_tells_the_utc_time_at_once_and_then_every_two_seconds() {
    let server = Server::standard().await;
    let mut client = Client::connect(&server, "timenow").await;
    let first = client.text().await;
    let second = client.text().await;
    assert_eq!(
        (seconds(&second) + 60 - seconds(&first)) % 60,
        2,
        "{first} {second}"
    );
}

/// The seconds of `2025-12-22T10:30:00Z`.
fn seconds(time: &str) -> u32 {
    let shape = time.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{time}");
    time[17..19].parse().expect("two digits")
}

#[tokio::test]
async fn a_service_runs_exactly_while_somebody_is_connected() {
    let server = Server::standard().await;
    assert_eq!(server.status("ping").counts.starts, 0);
    let mut ada = Client::connect(&server, "ping").await;
    let bob = Client::connect(&server, "ping").await;
    ada.round_trip("here").await;
    assert_eq!(bob.close(1000, "").await.0, 1000);
    ada.round_trip("still here").await;
    assert_eq!(server.status("ping").counts.starts, 1);
    assert_eq!(ada.close(1000, "").await.0, 1000);
    server
        .until("it has stopped", |server| server.status("ping").is_idle())
        .await;
    let mut eve = Client::connect(&server, "ping").await;
    eve.round_trip("back").await;
    assert_eq!(server.status("ping").counts.starts, 2);
}
