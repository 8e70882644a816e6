//! What listens beside the listeners of clients: for operators, and for probes.

use crate::http::Answer;
use crate::process::{Process, busline};
use crate::raw::Raw;

/// What is at a path of this listener.
async fn at(address: &str, path: &str) -> Answer {
    let address = address.parse().expect("an address");
    let mut raw = Raw::connect_to(address).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.send(request.as_bytes()).await;
    let answer = raw.end().await;
    Answer::parse(&String::from_utf8(answer).expect("text"))
}

/// The address that a line of the log tells.
fn address(line: &str) -> &str {
    let (_, rest) = line.split_once("addresses=[").expect("an address");
    rest.split([',', ']']).next().expect("an address")
}

#[tokio::test]
async fn a_listener_of_operators_that_others_reach_is_warned_of_and_one_of_probes_is_not() {
    let public = ["--admin=0.0.0.0:0", "--listen=127.0.0.1:0"];
    let mut process = Process::start(busline(&public)).await;
    let line = process
        .logged("others can reach the operators' listener")
        .await;
    assert!(line.contains("WARN"), "{line}");
    let local = [
        "--admin=127.0.0.1:0",
        "--probes=0.0.0.0:0",
        "--listen=127.0.0.1:0",
    ];
    let mut process = Process::start(busline(&local)).await;
    let admin = process.logged("operators' listener addresses").await;
    let next = process.logged("").await;
    assert!(next.contains("listener of probes"), "{next}");
    let probes = address(&next).replace("0.0.0.0", "127.0.0.1");
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200)] {
        assert_eq!(at(&probes, path).await.status, status, "{path}");
    }
    assert_eq!(at(&probes, "/debug/services").await.status, 404);
    assert_eq!(at(address(&admin), "/debug/services").await.status, 200);
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("others can reach"), "{log}");
}
