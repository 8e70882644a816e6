//! Services that misbehave, and what their clients see of it.

use std::future::pending;
use std::num::NonZeroU32;
use std::time::Duration;

use busline::Context;
use busline::bus::Generation;
use busline::limits::LifecyclePolicy;
use busline::registry::State;
use busline::service::echo;
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::http::ask;
use crate::raw::wish;
use crate::server::Server;

/// Crashes and stops of milliseconds, so that no test waits for them.
fn quick() -> LifecyclePolicy {
    LifecyclePolicy {
        stop_grace: Duration::from_millis(50),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        crashes_max: NonZeroU32::new(3).expect("3 is not 0"),
        cooldown: Duration::from_millis(300),
        ..LifecyclePolicy::default()
    }
}

/// Panics in its first runs, then is `echo`.
async fn fails_at_first(ctx: Context) {
    assert!(
        ctx.generation() > Generation::new(3),
        "a crash the test wants"
    );
    echo(ctx).await;
}

/// Is `echo`, but panics when it is told to.
async fn fails_on_demand(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        assert!(message.as_text() != Some("panic"), "a crash the test wants");
        ctx.reply(&message, &message);
    }
}

/// Is `echo`, but panics when its last client has left.
async fn fails_at_the_end(ctx: Context) {
    echo(ctx).await;
    panic!("a crash the test wants");
}

/// Is `echo`, but returns an error when it is told to.
async fn errs_on_demand(mut ctx: Context) -> Result<(), String> {
    while let Some(message) = ctx.recv().await {
        if message.as_text() == Some("err") {
            return Err("an error the test wants".into());
        }
        ctx.reply(&message, &message);
    }
    Ok(())
}

/// Does not return when its last client has left.
async fn never_returns(ctx: Context) {
    echo(ctx).await;
    pending::<()>().await;
}

#[tokio::test]
async fn clients_of_a_service_that_crashes_too_often_are_closed_with_1011_and_new_ones_refused() {
    let server = Server::start(|app| app.lifecycle(quick()).service("bad", fails_at_first)).await;
    let client = Client::connect(&server, "bad").await;
    assert_eq!(client.closed().await.0, 1011);
    assert_eq!(server.status("bad").counts.crashes, 3);
    let answer = ask(&server, &wish("/ws/bad")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.header("retry-after"),
        Some("1"),
        "whole seconds, never early"
    );
    let refused = Client::try_connect(&server, "bad").await;
    assert!(matches!(refused.err(), Some(Error::Http(response)) if response.status() == 503));
}

#[tokio::test]
async fn a_service_that_failed_is_tried_again_after_the_cooldown() {
    let server = Server::start(|app| app.lifecycle(quick()).service("bad", fails_at_first)).await;
    let client = Client::connect(&server, "bad").await;
    assert_eq!(client.closed().await.0, 1011);
    let cooled = |server: &Server| server.status("bad").state == State::Stopped;
    server.until("the cool-down is over", cooled).await;
    let mut client = Client::connect(&server, "bad").await;
    client.round_trip("at last").await;
    assert_eq!(server.status("bad").generation, Generation::new(4));
}

#[tokio::test]
async fn clients_stay_while_a_service_that_panicked_is_started_again() {
    let server = Server::start(|app| app.lifecycle(quick()).service("bad", fails_on_demand)).await;
    let mut client = Client::connect(&server, "bad").await;
    client.round_trip("before").await;
    client.send("panic").await;
    client.round_trip("after").await;
    let status = server.status("bad");
    assert_eq!((status.counts.crashes, status.counts.starts), (1, 2));
}

#[tokio::test]
async fn clients_stay_while_a_service_that_returned_an_error_is_started_again() {
    let server = Server::start(|app| app.lifecycle(quick()).service("bad", errs_on_demand)).await;
    let mut client = Client::connect(&server, "bad").await;
    client.round_trip("before").await;
    client.send("err").await;
    client.round_trip("after").await;
    let status = server.status("bad");
    assert_eq!((status.counts.crashes, status.counts.starts), (1, 2));
}

#[tokio::test]
async fn a_service_that_panics_while_stopping_serves_the_next_client() {
    let server = Server::start(|app| app.lifecycle(quick()).service("bad", fails_at_the_end)).await;
    for turn in 1..=2 {
        let mut client = Client::connect(&server, "bad").await;
        client.round_trip("hello").await;
        client.close(1000, "").await;
        let crashed = move |server: &Server| server.status("bad").counts.crashes == turn;
        server.until("it has crashed", crashed).await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_return_is_aborted_after_its_grace() {
    let server = Server::start(|app| app.lifecycle(quick()).service("stuck", never_returns)).await;
    let mut client = Client::connect(&server, "stuck").await;
    client.round_trip("hello").await;
    client.close(1000, "").await;
    server
        .until("it is gone", |server| server.status("stuck").is_idle())
        .await;
    let status = server.status("stuck");
    assert_eq!((status.counts.aborts, status.state), (1, State::Stopped));
}

#[tokio::test]
async fn a_client_that_joins_a_stopping_service_is_served_by_the_next_run() {
    let server = Server::start(|app| app.lifecycle(quick()).service("stuck", never_returns)).await;
    let mut ada = Client::connect(&server, "stuck").await;
    ada.round_trip("hello").await;
    ada.close(1000, "").await;
    let stopping = |server: &Server| matches!(server.status("stuck").state, State::Stopping { .. });
    server.until("it stops", stopping).await;
    let mut bob = Client::connect(&server, "stuck").await;
    bob.round_trip("hello").await;
    assert_eq!(server.status("stuck").generation, Generation::new(2));
}

#[tokio::test]
async fn a_service_that_panics_does_not_disturb_the_clients_of_another() {
    let server = Server::start(|app| {
        let app = app.lifecycle(quick());
        app.service("bad", fails_at_first)?.service("good", echo)
    })
    .await;
    let mut good = Client::connect(&server, "good").await;
    good.round_trip("before").await;
    let bad = Client::connect(&server, "bad").await;
    assert_eq!(bad.closed().await.0, 1011);
    good.round_trip("after").await;
    let counts = server.status("good").counts;
    assert_eq!((counts.starts, counts.crashes), (1, 0));
}
