//! How a server goes away.

use std::future::pending;
use std::time::Duration;

use busline::limits::LifecyclePolicy;
use busline::server::Undrained;
use busline::service::{echo, ping};
use busline::{Context, Limits};
use tokio::time::Instant;

use crate::client::Client;
use crate::http::ask;
use crate::raw::{Raw, TEXT, close, frame, wish};
use crate::server::Server;

#[tokio::test]
async fn everybody_is_closed_with_1001() {
    let mut server = Server::standard().await;
    let mut clients = Vec::new();
    for service in ["echo", "ping", "timenow", "ping"] {
        clients.push(Client::connect(&server, service).await);
    }
    server.drain();
    for client in clients {
        assert_eq!(
            client.closed().await,
            (1001, "the server is going away".into())
        );
    }
    assert_eq!(server.ended().await, Ok(()));
}

#[tokio::test]
async fn a_server_without_clients_goes_at_once() {
    let mut server = Server::standard().await;
    server.drain();
    assert_eq!(server.ended().await, Ok(()));
}

#[tokio::test]
async fn what_had_been_published_is_received_before_the_close() {
    let mut server = Server::standard().await;
    let mut client = Client::connect(&server, "echo").await;
    for number in 0..100 {
        client.send(number.to_string()).await;
    }
    // Each once on the way in and once on the way out.
    let published = |server: &Server| server.app().counts().bus.messages.published == 200;
    server.until("all is published", published).await;
    server.drain();
    for number in 0..100 {
        assert_eq!(client.text().await, number.to_string());
    }
    assert_eq!(client.closed().await.0, 1001);
    assert_eq!(server.ended().await, Ok(()));
}

#[tokio::test]
async fn what_had_arrived_reaches_the_others_before_they_are_closed() {
    for _ in 0..10 {
        let mut server = Server::standard().await;
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(Raw::join(&server, "ping").await);
        }
        let mut sender = Raw::join(&server, "ping").await;
        let texts: Vec<_> = (0..200).map(|number| format!("{number}")).collect();
        for text in &texts {
            sender.send(&frame(TEXT, text.as_bytes())).await;
        }
        // Nothing of it is read yet: nobody has waited for anything of the server.
        server.drain();
        others.push(sender);
        for other in &mut others {
            for text in &texts {
                assert_eq!(other.frame().await, (TEXT, text.clone().into_bytes()));
            }
            assert_eq!(other.closed().await.0, 1001);
        }
        drop(others);
        assert_eq!(server.ended().await, Ok(()));
    }
}

#[tokio::test]
async fn new_clients_are_refused_while_the_server_drains() {
    let mut server = Server::standard().await;
    let mut holding = Raw::join(&server, "echo").await;
    server.drain();
    assert_eq!(holding.closed().await.0, 1001);
    for service in ["echo", "ping"] {
        let answer = ask(&server, &wish(&format!("/ws/{service}"))).await;
        assert_eq!(answer.status, 503, "{service}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{service}");
    }
    holding.send(&close(1001)).await;
    assert_eq!(holding.end().await, b"");
    drop(holding);
    assert_eq!(server.ended().await, Ok(()));
}

#[tokio::test]
async fn a_client_that_never_answers_the_close_holds_the_drain_no_longer_than_the_close_timeout() {
    let limits = Limits {
        close_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut server = Server::start(|app| app.limits(limits).service("ping", ping)).await;
    let mut silent = Raw::join(&server, "ping").await;
    let begin = Instant::now();
    server.drain();
    assert_eq!(server.ended().await, Ok(()));
    assert!(
        begin.elapsed() >= Duration::from_millis(200),
        "it is given its time"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "and not that of the drain"
    );
    assert_eq!(silent.closed().await.0, 1001);
}

/// Does not return when its last client has left.
async fn never_returns(ctx: Context) {
    echo(ctx).await;
    pending::<()>().await;
}

#[tokio::test]
async fn a_service_that_never_stops_is_named() {
    let limits = Limits {
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let policy = LifecyclePolicy {
        stop_grace: Duration::from_secs(60),
        ..LifecyclePolicy::default()
    };
    let mut server = Server::start(|app| {
        let app = app.limits(limits).lifecycle(policy);
        app.service("stuck", never_returns)?.service("good", echo)
    })
    .await;
    let mut stuck = Client::connect(&server, "stuck").await;
    stuck.round_trip("hello").await;
    let good = Client::connect(&server, "good").await;
    server.drain();
    assert_eq!(stuck.closed().await.0, 1001);
    assert_eq!(good.closed().await.0, 1001);
    let undrained = Undrained {
        sessions: 0,
        services: vec!["stuck".into()],
    };
    assert_eq!(server.ended().await, Err(undrained));
}

#[tokio::test]
async fn a_session_that_is_left_at_the_deadline_is_counted_and_cut() {
    let limits = Limits {
        close_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut server = Server::start(|app| app.limits(limits).service("ping", ping)).await;
    let mut silent = Raw::join(&server, "ping").await;
    server.drain();
    let undrained = Undrained {
        sessions: 1,
        services: Vec::new(),
    };
    assert_eq!(server.ended().await, Err(undrained));
    assert_eq!(silent.closed().await.0, 1001);
    silent.end().await;
}
