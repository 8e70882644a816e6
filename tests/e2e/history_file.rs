//! A planned restart keeps positions and messages; a crash makes new ones.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::Stdio;
use std::time::Duration;

use busline::bus::{MessageBus, Position, Reading, Room, Topic};
use busline::limits::{HistoryPolicy, Publish, Relay, Retention};
use busline::rt::Tokio;
use busline::server::HistoryFile;
use busline::{App, ServicePolicy};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::with;
use crate::process::{Process, busline};
use crate::raw::{Raw, TEXT, frame};
use crate::server::soon;
use crate::settings::Scratch;

/// The settings and the directory of one test, removed at its end.
struct Place {
    settings: Scratch,
    directory: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let unique = format!("busline-{}-{name}-histories", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&directory).expect("a test may write there");
        let settings = format!(
            "listen = [\"127.0.0.1:0\"]\nhistory_file = {:?}\n[room.news]\npublish = \"members\"\n\
             history = {{ messages = 10, bytes = \"1MiB\", ttl = \"1h\" }}\n",
            directory.join("file"),
        );
        let settings = Scratch::new(&format!("{name}.toml"), &settings);
        Self {
            settings,
            directory,
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("file")
    }

    async fn start(&self) -> Process {
        Process::start(busline(&["--config", self.settings.path()])).await
    }

    /// Starts an application of this process in the place of the binary, and leaves the histories
    /// to the binary again; returns the position and the messages of the room.
    fn look(&self) -> (Position, Vec<(u64, String)>) {
        let app = app();
        let file = HistoryFile::open(&self.file(), &app).expect("it can be written");
        assert!(
            !self.file().exists(),
            "it is deleted before anything is accepted"
        );
        let page = app.bus().history(&topic(), &ALL).expect("it has a history");
        let messages = page.messages.iter();
        let messages = messages.map(|recorded| {
            let message = &recorded.message;
            let offset = message.offset().expect("it is recorded");
            (offset, message.as_text().expect("text").to_owned())
        });
        let messages = messages.collect();
        file.save(&app).expect("it can be written");
        (page.position, messages)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

const ALL: Reading = Reading {
    since: None,
    limit: 100,
    reverse: false,
};

fn topic() -> Topic {
    let kind = "news".parse().expect("valid");
    Topic::from_service_to_ws(Room::new(&kind, "today").expect("valid"))
}

/// An application with the histories that the settings have.
fn app() -> App<Tokio> {
    let retention = Retention {
        messages: NonZeroUsize::new(10).expect("not 0"),
        bytes: 1 << 20,
        ttl: Duration::from_secs(3600),
        recovery_max: None,
    };
    let policy = ServicePolicy {
        history: Some(HistoryPolicy::from(retention)),
        relay: Some(Relay { echo: true }),
        publish: Publish::Members,
        ..ServicePolicy::of_rooms()
    };
    let app = App::builder(Tokio::current()).relay_with("news", policy);
    app.expect("a valid name").build()
}

/// Publishes a message through a client, and waits until it is published.
async fn publish(process: &Process, text: &str) {
    let mut stream = process.join("news/today").await;
    let message = frame(TEXT, text.as_bytes());
    stream.write_all(&message).await.expect("it reads");
    let mut echo = vec![0; text.len() + 2];
    soon(stream.read_exact(&mut echo)).await.expect("an echo");
    assert_eq!(&echo[2..], text.as_bytes());
}

async fn stop(process: Process) -> String {
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    log
}

fn numbered(texts: &[&str]) -> Vec<(u64, String)> {
    let texts = (1..).zip(texts);
    texts
        .map(|(offset, text)| (offset, (*text).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_planned_restart_loses_nothing() {
    let place = Place::new("planned");
    let process = place.start().await;
    publish(&process, "one").await;
    publish(&process, "two").await;
    let log = stop(process).await;
    assert!(log.contains("histories saved"), "{log}");
    let (position, messages) = place.look();
    assert_eq!((position.offset, messages), (2, numbered(&["one", "two"])));
    let mut process = place.start().await;
    let told = process.logged("histories restored").await;
    assert!(told.contains("restored=1"), "{told}");
    publish(&process, "three").await;
    stop(process).await;
    let (again, messages) = place.look();
    assert_eq!((again.epoch, again.offset), (position.epoch, 3));
    assert_eq!(messages, numbered(&["one", "two", "three"]));
}

#[tokio::test]
async fn after_a_crash_positions_are_new() {
    let place = Place::new("crash");
    let process = place.start().await;
    publish(&process, "one").await;
    stop(process).await;
    let (before, _messages) = place.look();
    let process = place.start().await;
    publish(&process, "two").await;
    process.signal("KILL").await;
    let (code, log) = process.end().await;
    assert_eq!(code, None, "{log}");
    assert!(!place.file().exists(), "a crash leaves no file");
    let process = place.start().await;
    publish(&process, "three").await;
    stop(process).await;
    let (after, messages) = place.look();
    assert_ne!(after.epoch, before.epoch);
    assert_eq!((after.offset, messages), (1, numbered(&["three"])));
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_the_server_starts() {
    let place = Place::new("damaged");
    std::fs::write(place.file(), "no histories").expect("a test may write there");
    let mut process = place.start().await;
    let told = process.logged("history file not accepted").await;
    assert!(told.contains("it is no history file"), "{told}");
    let bad = std::fs::read_to_string(place.directory.join("file.bad"));
    assert_eq!(bad.expect("it is there"), "no histories");
    stop(process).await;
}

#[tokio::test]
async fn a_server_that_cannot_start_leaves_the_file_alone() {
    let place = Place::new("busy");
    let process = place.start().await;
    publish(&process, "one").await;
    let address = process.address.to_string();
    let arguments = [
        "--config",
        place.settings.path(),
        "--threads",
        "1",
        "--listen",
        &address,
    ];
    let second = crate::process::output(&mut busline(&arguments)).await;
    assert_eq!(second.status.code(), Some(1));
    stop(process).await;
    assert_eq!(place.look().1, numbered(&["one"]));
}

#[tokio::test]
async fn a_second_server_beside_the_first_one_neither_reads_nor_writes() {
    let place = Place::new("second");
    let first = place.start().await;
    publish(&first, "one").await;
    let mut second = place.start().await;
    second.logged("another server has the history file").await;
    stop(first).await;
    publish(&second, "two").await;
    let log = stop(second).await;
    assert!(!log.contains("histories saved"), "{log}");
    // The first one has left its file, but the second has served since.
    let (position, messages) = place.look();
    assert_eq!((position.offset, messages), (0, Vec::new()));
    assert!(place.directory.join("file.bad").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_one_clear_line() {
    let path = Path::new("/nonexistent/histories");
    let path = path.to_str().expect("text");
    let arguments = ["--listen", "127.0.0.1:0", "--history-file", path];
    let output = crate::process::output(&mut busline(&arguments)).await;
    let error = crate::process::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(path) && error.contains("directory"),
        "{error}"
    );
}

#[tokio::test]
async fn a_path_that_is_no_file_is_one_clear_line_and_nothing_is_moved() {
    let place = Place::new("foreign");
    let data = place.directory.join("data");
    std::fs::create_dir(&data).expect("a test may write there");
    let (data, free) = (data.display(), place.file());
    for (path, kind) in [
        (format!("{data}"), "a directory"),
        (format!("{data}/"), "a directory"),
        (format!("{}/", free.display()), "the path of a directory"),
    ] {
        let arguments = ["--listen", "127.0.0.1:0", "--history-file", &path];
        let output = crate::process::output(&mut busline(&arguments)).await;
        let error = crate::process::text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        let told = format!("history_file {path}: it is {kind}.");
        assert!(error.contains(&told), "{error}");
    }
    assert_eq!(names(&place.directory), ["data"]);
    assert!(names(&place.directory.join("data")).is_empty());
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(directory).expect("it is there");
    let names = entries.map(|entry| entry.expect("it is readable").file_name());
    names.collect()
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_whose_lock_file_was_removed_leaves_no_file() {
    let place = Place::new("unlocked");
    let process = place.start().await;
    publish(&process, "one").await;
    std::fs::remove_file(place.directory.join("file.lock")).expect("it is there");
    let log = stop(process).await;
    assert!(log.contains("the histories are lost"), "{log}");
    assert!(log.contains("its lock file was removed"), "{log}");
    assert!(!place.file().exists());
}

#[tokio::test]
async fn a_new_file_that_cannot_be_made_changes_no_exit_code() {
    let place = Place::new("blocked");
    let process = place.start().await;
    publish(&process, "one").await;
    // A directory in the place of the new file cannot be replaced by a file.
    std::fs::create_dir(place.directory.join("file.new")).expect("a test may write there");
    let log = stop(process).await;
    assert!(log.contains("the histories are lost"), "{log}");
    assert!(!place.file().exists());
}

/// The binary where files take no byte: a write fails, and no signal ends the process.
#[cfg(unix)]
fn without_bytes(arguments: &[&str]) -> tokio::process::Command {
    let inner = busline(arguments);
    let inner = inner.as_std();
    let mut command = tokio::process::Command::new("sh");
    let script = r#"trap "" XFSZ; ulimit -f 0; exec "$0" "$@""#;
    command.args(["-c", script]).arg(inner.get_program());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let (output, error) = (Stdio::piped(), Stdio::piped());
    command.args(inner.get_args()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(output).stderr(error);
    command
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_takes_no_byte_is_not_left_and_changes_no_exit_code() {
    let place = Place::new("full");
    let command = without_bytes(&["--config", place.settings.path()]);
    let process = Process::start(command).await;
    publish(&process, "one").await;
    let log = stop(process).await;
    assert!(log.contains("the histories are lost"), "{log}");
    assert!(log.contains("File too large"), "{log}");
    assert_eq!(names(&place.directory), ["file.lock"]);
}

/// Joins the room as a client of `busline.v1.json`.
async fn join_json(process: &Process, query: &str) -> Raw {
    let mut raw = Raw::connect_to(process.address).await;
    let json = "Sec-WebSocket-Protocol: busline.v1.json";
    let request = with(&format!("/ws/news/today{query}"), json);
    raw.ask_json(&request).await;
    raw
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_what_it_missed() {
    let place = Place::new("since");
    let process = place.start().await;
    let mut client = join_json(&process, "").await;
    let first = client.told().await;
    let epoch = first["position"]["epoch"].clone();
    client.send(&frame(TEXT, br#"{"text":"one"}"#)).await;
    assert_eq!(client.told().await["offset"], 1);
    client.kill();
    publish(&process, "two").await;
    stop(process).await;

    let process = place.start().await;
    let since = format!("?since={}:1", epoch.as_str().expect("a text"));
    let mut client = join_json(&process, &since).await;
    let answer = json!({"recovered": true, "epoch": epoch, "offset": 2});
    assert_eq!(client.told().await, answer);
    let missed = client.told().await;
    assert_eq!(
        (&missed["text"], &missed["offset"]),
        (&json!("two"), &json!(2))
    );
    process.signal("KILL").await;
    process.end().await;

    let process = place.start().await;
    let mut client = join_json(&process, &since).await;
    let mut answer = client.told().await;
    let after = answer["epoch"].take();
    assert!(after.is_string() && after != epoch, "{after}");
    let expected = json!({"recovered": false, "why": "epoch", "epoch": null, "offset": 0});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_room_with_a_client_is_left_out() {
    let place = Place::new("live");
    let app = app();
    let file = HistoryFile::open(&place.file(), &app).expect("it can be written");
    app.bus().publish(&topic(), "one".into());
    let client = app.bus().subscribe(&topic()).expect("there is room");
    let saved = file.save(&app).expect("it can be written");
    assert_eq!((saved.histories, saved.left_out), (0, 1));
    drop(client);
}
