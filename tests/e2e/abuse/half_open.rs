//! Sockets whose other end is gone without a word, as after a power cut.

use std::time::Duration;

use busline::limits::KeepalivePolicy;
use busline::service::{echo, ping};
use busline::{CloseReason, Limits};

use super::Witness;
use crate::raw::Raw;
use crate::server::Server;

#[tokio::test]
async fn half_open_sockets_are_found_by_ping_and_leave_nothing_behind() {
    let keepalive = KeepalivePolicy {
        interval: Duration::from_millis(300),
        pong_timeout: Duration::from_millis(300),
    };
    let limits = Limits {
        keepalive,
        ..Limits::default()
    };
    let parts = |app: busline::app::Builder<_>| {
        app.limits(limits)
            .service("echo", echo)?
            .service("ping", ping)
    };
    let server = Server::start(parts).await;
    let witness = Witness::of(server.address()).await;
    let mut gone = Vec::new();
    for _ in 0..50 {
        // Kept, and never read: nothing answers for them.
        gone.push(Raw::join(&server, "ping").await);
    }
    let silent = |server: &Server| {
        server
            .app()
            .counts()
            .sessions
            .closed_for(CloseReason::Silent)
    };
    server
        .until("all are found", |server| silent(server) == 50)
        .await;
    server.until_left("ping").await;
    witness.saw_no_loss().await;
    let none = |server: &Server| server.app().sessions_open() == 0;
    server.until("nothing is left", none).await;
}
