//! Clients whose process is killed: they say nothing, and their system closes for them.

use std::process::Stdio;

use busline::service::{echo, ping};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Witness;
use crate::raw::wish;
use crate::server::{Server, soon};

/// A client of `ping` in a process of its own, once it is let in.
async fn client(server: &Server) -> Child {
    let address = server.address();
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; printf '%s' \"$WISH\" >&3; head -n 1 <&3; exec sleep 600 <&3",
        address.ip(),
        address.port()
    );
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .env("WISH", wish("/ws/ping"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("there is a bash");
    let stdout = child.stdout.take().expect("it is piped");
    let line = soon(BufReader::new(stdout).lines().next_line()).await;
    let line = line.expect("it can be read").expect("a line");
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    child
}

#[tokio::test]
async fn clients_that_are_killed_leave_nothing_behind() {
    let parts = |app: busline::app::Builder<_>| app.service("echo", echo)?.service("ping", ping);
    let server = Server::start(parts).await;
    let witness = Witness::of(server.address()).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(client(&server).await);
    }
    assert_eq!(server.status("ping").clients, 10);
    for mut client in clients {
        // By SIGKILL.
        soon(client.kill()).await.expect("it runs");
    }
    server.until_left("ping").await;
    witness.saw_no_loss().await;
    server
        .until("nothing is left", |server| {
            server.app().sessions_open() == 0
        })
        .await;
}
