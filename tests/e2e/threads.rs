//! Several threads: each accepts connections of its own, and topics are everybody's.

use std::collections::BTreeSet;

use crate::process::{Process, busline, output, text};
use crate::raw::{CLOSE, Raw, TEXT, frame};

async fn start(threads: &str, listen: &str) -> Process {
    Process::start(busline(&["--threads", threads, "--listen", listen])).await
}

#[tokio::test]
async fn what_one_client_says_reaches_those_of_every_thread_once_and_in_order() {
    const CLIENTS: u8 = 30;
    let process = start("3", "127.0.0.1:0").await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Raw::join_at(process.address, "ping").await);
    }
    for (number, client) in (0..CLIENTS).zip(&mut clients) {
        client.send(&frame(TEXT, &[b'a' + number % 26])).await;
        client
            .send(&frame(TEXT, number.to_string().as_bytes()))
            .await;
    }
    let mut orders = BTreeSet::new();
    for client in &mut clients {
        let mut said = Vec::new();
        for _ in 0..2 * CLIENTS {
            let (kind, payload) = client.frame().await;
            assert_eq!(kind, TEXT);
            said.push(payload);
        }
        orders.insert(said);
    }
    assert_eq!(orders.len(), 1, "one order for all");
    let order = orders.pop_first().expect("there is one");
    for number in 0..CLIENTS {
        let times = order
            .iter()
            .filter(|said| **said == number.to_string().as_bytes());
        assert_eq!(times.count(), 1, "{number}");
    }
}

#[tokio::test]
async fn a_signal_drains_the_clients_of_every_thread() {
    let process = start("3", "127.0.0.1:0").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Raw::join_at(process.address, "echo").await);
    }
    process.signal("TERM").await;
    for client in &mut clients {
        let (kind, payload) = client.frame().await;
        assert_eq!((kind, &payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
        client.send(&frame(CLOSE, &payload)).await;
    }
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_port_in_use_is_told_of_whatever_listens_there() {
    let first = start("2", "127.0.0.1:0").await;
    let listen = first.address.to_string();
    for threads in ["1", "2"] {
        let arguments = ["--threads", threads, "--listen", &listen];
        let output = output(&mut busline(&arguments)).await;
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("another program listens there"), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn there_are_as_many_threads_as_are_asked_for() {
    for asked in ["1", "4"] {
        let mut process = start(asked, "127.0.0.1:0").await;
        // The thread that writes the log has its name once it has written.
        process.logged("listening").await;
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id()));
        let names = threads.expect("it runs").filter_map(|thread| {
            // The one that has printed the greeting may end meanwhile.
            std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
        });
        let writing = ["busline-log\n", "busline-output\n"];
        let serving = names.filter(|name| !writing.contains(&name.as_str()));
        assert_eq!(serving.count().to_string(), asked);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_served_by_all_threads_and_removed_once() {
    let path = std::env::temp_dir().join(format!("busline-{}-threads.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let process = start("3", &format!("127.0.0.1:0,{unix}")).await;
    for _ in 0..10 {
        crate::unix::echoes(&path).await;
    }
    process.signal("TERM").await;
    assert_eq!(process.end().await.0, Some(0));
    assert!(!path.exists());
}
