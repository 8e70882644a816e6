//! Taps whose readers read, do not read, or are gone; in memory and under virtual time.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;
use crate::bus::MessageBus;
use crate::rt::{Clock, Spawn, Tokio};
use crate::server::pipe::{Dial, head, pipes, until};
use crate::server::serve_admin;
use crate::service::echo;
use crate::session::Admission;

fn operators() -> (App<Tokio>, Dial) {
    let app = App::builder(Tokio::current()).service("echo", echo);
    let app = app.expect("it is valid").build();
    let (dial, pipes) = pipes("127.0.0.1:1");
    let served = serve_admin(pipes, app.clone());
    app.rt()
        .spawn(Box::pin(async move { match served.await {} }));
    (app, dial)
}

fn request(of: &str) -> String {
    format!("GET /debug/tap?{of} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Opens a tap, and reads its first comment.
async fn tapped(dial: &Dial, of: &str, bytes: usize) -> (DuplexStream, String) {
    let mut stream = dial.connect(bytes);
    let sent = stream.write_all(request(of).as_bytes()).await;
    sent.expect("the server reads");
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let said = until(&mut stream, "\n\n").await;
    (stream, said)
}

async fn seconds_pass(app: &App<Tokio>, seconds: u64) {
    let then = app.rt().now() + Duration::from_secs(seconds);
    app.rt().sleep_until(then).await;
}

#[tokio::test(start_paused = true)]
async fn a_tap_goes_on_and_says_what_it_is_at_once_and_every_15_s() {
    let (app, dial) = operators();
    let began = app.rt().now();
    let (mut stream, said) = tapped(&dial, "topic=a", 4096).await;
    assert!(
        said.contains(": tapping topic a, which has no subscriber yet"),
        "{said}"
    );
    assert_eq!(app.rt().now(), began, "at once");
    let topic = "a".parse().expect("a name");
    let mut reader = app.bus().subscribe(&topic).expect("there is room");
    for times in 1..=20 {
        let said = until(&mut stream, "\n\n").await;
        assert!(said.ends_with(": tapping topic a\n\n"), "{said}");
        assert_eq!(app.rt().now(), began + TAP_KEEPALIVE * times);
    }
    app.bus().publish(&topic, "x".into());
    reader.recv().await;
    let said = until(&mut stream, "\n\n").await;
    assert!(
        said.contains("data: {") && said.contains("\"published\""),
        "{said}"
    );
    assert_eq!(app.rt().now(), began + TAP_KEEPALIVE * 20, "without a wait");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_there_is_said_at_once_and_one_that_has_left_soon() {
    let (app, dial) = operators();
    let answer = dial.ask(&request("client=1")).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with("no client 1 is connected\n"), "{answer}");
    assert_eq!(app.bus().taps(), 0);
    let client = Admission::request(&app, "echo").expect("there is room");
    let number = client.client();
    let (mut stream, said) = tapped(&dial, &format!("client={number}"), 4096).await;
    assert!(
        said.ends_with(&format!(": tapping client {number}\n\n")),
        "{said}"
    );
    drop(client);
    let left = format!(": client {number} is not connected any more\n\n");
    let began = app.rt().now();
    until(&mut stream, &left).await;
    assert!(app.rt().now() <= began + TAP_KEEPALIVE);
}

/// Publishes more on a topic than any reader can buffer.
fn flood(app: &App<Tokio>, topic: &Topic) {
    let _reader = app.bus().subscribe(topic).expect("there is room");
    for _ in 0..1000 {
        app.bus().publish(topic, "x".into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_loses_its_place_after_a_comment_and_a_write() {
    let (app, dial) = operators();
    let (stream, _) = tapped(&dial, "topic=a", 1024).await;
    let limit = TAP_KEEPALIVE + app.limits().write_timeout;
    flood(&app, &"a".parse().expect("a name"));
    seconds_pass(&app, limit.as_secs() - 1).await;
    assert_eq!(app.bus().taps(), 1);
    // The first deadline of the connection wakes the task, which then writes a few more events to
    // its buffer.
    let first = app.limits().handshake_timeout * 2;
    seconds_pass(&app, 2 + first.as_secs()).await;
    assert_eq!(app.bus().taps(), 0);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_again_in_time_keeps_its_place() {
    let (app, dial) = operators();
    let (mut stream, _) = tapped(&dial, "topic=a", 1024).await;
    let limit = TAP_KEEPALIVE + app.limits().write_timeout;
    for _ in 0..3 {
        flood(&app, &"a".parse().expect("a name"));
        seconds_pass(&app, limit.as_secs() - 1).await;
        until(
            &mut stream,
            ": tapping topic a, which has no subscriber yet\n\n",
        )
        .await;
    }
    assert_eq!(app.bus().taps(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_gone_leaves_its_place_to_another_though_nothing_happens() {
    let (app, dial) = operators();
    let mut taps = Vec::new();
    for _ in 0..TAPS_MAX {
        taps.push(tapped(&dial, "topic=a", 4096).await);
    }
    assert_eq!(dial.status(&request("topic=a")).await, 503);
    taps.pop();
    // The write of the next comment notices the closed connection at the latest.
    seconds_pass(&app, 2 * TAP_KEEPALIVE.as_secs()).await;
    assert_eq!(app.bus().taps(), TAPS_MAX - 1);
    let (_stream, said) = tapped(&dial, "topic=a", 4096).await;
    assert!(said.contains(": tapping topic a"), "{said}");
}
