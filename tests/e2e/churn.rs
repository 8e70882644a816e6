//! Many clients that come and go leave nothing behind.

use busline::bus::BusCounts;
use futures::future::join_all;

use crate::raw::{Raw, TEXT, close, frame};
use crate::server::Server;

const CLIENTS: usize = 2000;
const BATCH: usize = 100;

/// Connects, and leaves by a close or by a reset, with and without having said something.
async fn visit(server: &Server, number: usize) {
    let service = ["echo", "ping"][number / 2 % 2];
    let mut raw = Raw::join(server, service).await;
    if (number / 4).is_multiple_of(2) {
        raw.send(&frame(TEXT, b"here I am")).await;
    }
    if number.is_multiple_of(2) {
        raw.send(&close(1000)).await;
        assert_eq!(raw.closed().await.0, 1000);
        raw.end().await;
    } else {
        raw.kill();
    }
}

#[tokio::test]
async fn two_thousand_clients_leave_nothing_behind() {
    let server = Server::standard().await;
    for batch in 0..CLIENTS / BATCH {
        let visits = (0..BATCH).map(|one| visit(&server, batch * BATCH + one));
        join_all(visits).await;
    }
    server
        .until("all sessions are gone", |server| {
            server.app().sessions_open() == 0
        })
        .await;
    let idle = |server: &Server| {
        let mut names = ["echo", "ping"].into_iter();
        names.all(|service| server.status(service).is_idle())
    };
    server.until("all services are idle", idle).await;
    let counts = server.app().counts();
    let messages = counts.bus.messages;
    let nothing = BusCounts {
        messages,
        ..BusCounts::default()
    };
    assert_eq!(counts.bus, nothing, "no topic, no subscription, no byte");
    assert_eq!(messages.pending, 0);
    let known = messages.delivered + messages.lost_lagged + messages.lost_unsubscribed;
    assert_eq!(messages.owed, known, "{messages:?}");
    assert_eq!(counts.sessions.opened, CLIENTS as u64);
    assert_eq!(counts.sessions.closed, CLIENTS as u64);
    let sessions = counts.sessions;
    let sent = sessions.messages_out + sessions.lost_unsent + sessions.stale;
    assert!(sent <= messages.delivered, "{sessions:?} {messages:?}");
}
