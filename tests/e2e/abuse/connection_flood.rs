//! One address that takes as many connections as it can get.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::service::{echo, ping};
use busline::{DisplaceReason, Limits, RefuseReason};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::Witness;
use crate::raw::{Raw, wish};
use crate::server::{Server, soon};

/// A connection from another address than that of everybody else.
async fn connect(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    let own = "127.0.0.2:0".parse().expect("an address");
    socket
        .bind(own)
        .expect("all of 127.0.0.0/8 is loopback, on Linux");
    soon(socket.connect(server.address()))
        .await
        .expect("it listens")
}

#[tokio::test]
async fn a_flood_from_one_address_takes_no_more_than_its_share() {
    let limits = Limits {
        sessions_per_address: 40,
        handshakes_per_address: NonZeroUsize::new(10).expect("10 is not 0"),
        handshake_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let parts = |app: busline::app::Builder<_>| {
        app.limits(limits)
            .service("echo", echo)?
            .service("ping", ping)
    };
    let server = Server::start(parts).await;
    let witness = Witness::of(server.address()).await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(Raw::on(connect(&server).await).upgrade("ping").await);
    }
    // The 41st and all after it are refused, while others get in.
    for _ in 0..100 {
        let mut raw = Raw::on(connect(&server).await);
        raw.send(wish("/ws/ping").as_bytes()).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 503 "));
    }
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(&server).await;
        // It may be closed already.
        drop(stream.write_all(b"GET ").await);
        silent.push(stream);
    }
    let displaced = |server: &Server| {
        let counts = server.app().counts().sessions;
        counts.displaced_for(DisplaceReason::HandshakesPerAddress)
    };
    server
        .until("all but its share are closed", |server| {
            displaced(server) >= 190
        })
        .await;
    // A neighbour behind the same address is answered as well.
    let mut neighbour = Raw::on(connect(&server).await);
    neighbour.send(wish("/healthz").as_bytes()).await;
    assert!(neighbour.head().await.starts_with("HTTP/1.1 200 "));
    let other = Raw::join(&server, "ping").await;
    drop((other, silent, sessions));
    witness.saw_no_loss().await;
    let counts = server.app().counts().sessions;
    assert_eq!(counts.refused_for(RefuseReason::SessionsPerAddress), 100);
    server.until_left("ping").await;
}
