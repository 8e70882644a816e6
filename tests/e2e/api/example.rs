//! `examples/python-chat`: a chat whose backend is a program in Python. Skipped with a message
//! where Python is missing.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{post, send};
use crate::process::{Process, busline};
use crate::raw::{Raw, TEXT};
use crate::server::soon;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python-chat/");

/// The key in the setting of the example.
const KEY: &str = "replace-me-by-32-random-bytes-or-more";

/// Starts the backend, which calls busline here; its port. `None` where there is no Python.
async fn backend(api: &str, live: &str) -> Option<(Child, u16)> {
    let mut python = Command::new("python3");
    python.arg(format!("{FOLDER}backend.py"));
    python.envs([
        ("CHAT_API", api),
        ("CHAT_LIVE", live),
        ("CHAT_KEY", KEY),
        ("CHAT_PORT", "0"),
    ]);
    python.stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = python.spawn().ok()?;
    let stdout = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    let line = soon(lines.next_line()).await.expect("text");
    let line = line.expect("it says where it is");
    let port = line.trim_end_matches('/').rsplit(':').next();
    Some((child, port?.parse().expect("a port")))
}

#[tokio::test]
async fn what_is_said_to_the_backend_in_python_reaches_the_clients_of_the_room() {
    let config = format!("{FOLDER}busline.toml");
    let mut command = busline(&["--listen=127.0.0.1:0", "--config", &config]);
    command.env("BUSLINE_ADMIN", "127.0.0.1:0");
    let mut process = Process::start(command).await;
    let operators = process
        .logged_address("operators' listener addresses=[")
        .await;
    let api = format!("http://{operators}/api");
    let live = format!("ws://{}/ws/chat/lobby", process.address);
    let Some((_child, port)) = backend(&api, &live).await else {
        eprintln!("skipped: there is no python3 here");
        return;
    };
    let at = ([127, 0, 0, 1], port).into();
    let page = send(at, "GET", "/", "", "").await;
    assert!(page.body().contains(&live), "{}", page.body());
    let script = send(at, "GET", "/busline.js", "", "").await;
    assert!(script.body().contains("export class Busline"));
    let mut client = Raw::join_at(process.address, "chat/lobby").await;
    let say = async |name: &str, text: &str, id: &str| {
        let body = json!({ "name": name, "text": text, "id": id }).to_string();
        post(at, "/say", "", &body).await
    };
    let answer = say("Ann", "<b>hi</b>", "1").await;
    assert_eq!(answer.status, 200, "{}", answer.body());
    assert_eq!(answer.body(), r#"{"told": 1}"#);
    say("Ann", "<b>hi</b>", "1").await;
    say("Bob", "two", "2").await;
    for (name, text) in [("Ann", "<b>hi</b>"), ("Bob", "two")] {
        let (kind, data) = client.frame().await;
        let data: Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!((kind, data), (TEXT, json!({ "name": name, "text": text })));
    }
    assert_eq!(say("", "nobody", "3").await.status, 400);
}
