//! The settings of the executable: where they come from, what is said of them, how they change.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::auth::{SECRET, now, token};
use crate::client::Client;
use crate::process::{Process, busline, output, text};
use crate::raw::{PING, PONG, Raw, TEXT, frame, wish};
use crate::server::soon;

/// A file of one test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let unique = format!("busline-{}-{name}", std::process::id());
        let file = Self(std::env::temp_dir().join(unique));
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("a test may write there");
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is gone need not be removed.
        drop(std::fs::remove_file(&self.0));
    }
}

#[tokio::test]
async fn a_flag_beats_the_environment_and_that_the_file() {
    let file = Scratch::new(
        "layers.toml",
        "window = 1\nmax_message_bytes = 2\nlinger = \"3s\"\n\
         [service.ping]\nwindow = 4\nslow_consumer = \"close\"\n",
    );
    let flags = ["--linger=5s", "--service-timenow-window=8"];
    let mut command = busline(&["--config", file.path(), flags[0], flags[1], "config"]);
    command.env("BUSLINE_SERVICE_PING_WINDOW", "5");
    command.env("BUSLINE_SERVICE_TIMENOW_WINDOW", "6");
    command.env("BUSLINE_SERVICE_ECHO_LINGER", "9s");
    command.env("BUSLINE_LINGER", "6s");
    command.env("BUSLINE_MAX_MESSAGE_BYTES", "7");
    let output = output(&mut command).await;
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (line, source) in [
        ("window = 1", format!("{}:1", file.path())),
        (
            "max_message_bytes = 7",
            "BUSLINE_MAX_MESSAGE_BYTES".to_owned(),
        ),
        ("linger = \"5s\"", "--linger".to_owned()),
        ("window_bytes = 1048576", "default".to_owned()),
        ("slow_consumer = \"close\"", format!("{}:6", file.path())),
        ("window = 5", "BUSLINE_SERVICE_PING_WINDOW".to_owned()),
        ("window = 8", "--service-timenow-window".to_owned()),
        ("linger = \"9s\"", "BUSLINE_SERVICE_ECHO_LINGER".to_owned()),
    ] {
        let found = printed
            .lines()
            .find(|found| found.starts_with(&format!("{line} ")));
        let found = found.unwrap_or_else(|| panic!("{line}: {printed}"));
        assert!(found.ends_with(&format!("# {source}")), "{found}");
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_is_named_line_by_line_and_nothing_starts() {
    let file = Scratch::new(
        "wrong.toml",
        "windw = 1\n\n[limits]\nsessions = 0\n[service.pong]\n",
    );
    let checked = output(&mut busline(&["check", file.path()])).await;
    let started = output(&mut busline(&["--config", file.path()])).await;
    for output in [checked, started] {
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 3, "{error}");
        for (line, word) in [
            (1, "`window`"),
            (4, "from 1 to"),
            (5, "echo, ping, timenow"),
        ] {
            let place = format!("{}:{line}: ", file.path());
            let found = error.lines().find(|found| found.contains(&place));
            assert!(
                found.is_some_and(|found| found.contains(word)),
                "{place}: {error}"
            );
        }
        assert_eq!(text(&output.stdout), "");
    }
    file.write("window = 1\n");
    let valid = output(&mut busline(&["check", file.path()])).await;
    assert!(valid.status.success(), "{}", text(&valid.stderr));
}

#[tokio::test]
async fn rooms_of_the_configuration_are_checked_printed_and_served() {
    let wrong = Scratch::new(
        "wrong-rooms.toml",
        "[room.ping]\n[room.Chat]\n[room.news]\npublish = \"anyone\"\nwindw = 1\n",
    );
    let checked = output(&mut busline(&["check", wrong.path()])).await;
    let error = text(&checked.stderr);
    for (line, word) in [
        (
            1,
            "`ping` is no name for rooms: the server has a service of this name",
        ),
        (2, "`Chat` is no name for rooms: the character at byte 0"),
        (4, "members (the clients of the room), nobody (no client)"),
        (5, "did you mean `window`?"),
    ] {
        let place = format!("{}:{line}: ", wrong.path());
        let found = error.lines().find(|found| found.contains(&place));
        assert!(
            found.is_some_and(|found| found.contains(word)),
            "{place}: {error}"
        );
    }
    let file = Scratch::new(
        "rooms.toml",
        "[room.news]\n[room.open]\npublish = \"members\"\nlinger = \"1s\"\n",
    );
    let printed = output(&mut busline(&["--config", file.path(), "config"])).await;
    let printed = text(&printed.stdout);
    for line in ["[room.news]", "run = \"relay\"", "publish = \"members\""] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let command = busline(&["--config", file.path(), "--listen", "127.0.0.1:0"]);
    let server = Process::start(command).await;
    let enter = async |room: &str| {
        let stream = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        Client::on(stream, room).await.expect("admitted")
    };
    let (mut ann, mut bob) = (enter("open/1").await, enter("open/1").await);
    ann.round_trip("hello").await;
    assert_eq!(bob.text().await, "hello");
    let mut reader = enter("news/1").await;
    reader.send("hello").await;
    let (code, reason) = reader.closed().await;
    assert_eq!((code, &*reason), (4403, "clients may not publish here"));
}

#[tokio::test]
async fn a_value_that_is_wrong_is_named_with_its_flag_or_variable() {
    let flag = output(&mut busline(&["--window", "0"])).await;
    let variable = output(busline(&[]).env("BUSLINE_LINGER", "5")).await;
    let service = output(&mut busline(&["--service-ping-window", "0"])).await;
    let missing = output(&mut busline(&["--config", "no/such/file"])).await;
    for (output, word) in [
        (flag, "--window: `window` is not allowed"),
        (variable, "BUSLINE_LINGER: `linger` is not allowed"),
        (
            service,
            "--service-ping-window: `service.ping.window` is not allowed",
        ),
        (missing, "cannot use no/such/file"),
    ] {
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_named_by_the_commands_and_in_the_log() {
    let file = Scratch::new("variable.toml", "");
    let said = "BUSLINE_LINGR is no setting, and ignored, did you mean `BUSLINE_LINGER`?";
    for arguments in [&["config"][..], &["check", file.path()]] {
        let output = output(busline(arguments).env("BUSLINE_LINGR", "1s")).await;
        assert!(output.status.success(), "{arguments:?}");
        assert_eq!(text(&output.stderr), format!("busline: {said}\n"));
    }
    let mut command = busline(&["--listen", "127.0.0.1:0"]);
    command.env("BUSLINE_LINGR", "1s");
    Process::start(command).await.logged(said).await;
}

#[cfg(not(feature = "otel"))]
#[tokio::test]
async fn traces_need_a_busline_that_was_built_for_them() {
    let output = output(&mut busline(&["--otel-endpoint", "http://localhost:4318"])).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("--features otel"), "{error}");
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_word_that_anybody_may_come() {
    let refused = output(&mut busline(&["--listen", "0.0.0.0:0"])).await;
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("--allow-anonymous"), "{error}");
    assert_eq!(text(&refused.stdout), "", "nothing is served");
}

#[tokio::test]
async fn an_address_that_others_reach_may_be_served_to_those_who_show_who_they_are() {
    let mut command = busline(&["--listen", "0.0.0.0:0", "--log", "trace"]);
    command.env("BUSLINE_AUTH_SECRET", SECRET);
    let mut process = Process::start(command).await;
    let exp = now() + 600;
    let claims = format!(r#"{{"sub":"a","services":["echo"],"exp":{exp}}}"#);
    let good = token(r#"{"alg":"HS256"}"#, &claims, SECRET);
    process.address.set_ip([127, 0, 0, 1].into());
    let mut client = process.join(&format!("echo?token={good}")).await;
    echoes(&mut client, "let in").await;
    let mut stream = soon(TcpStream::connect(process.address))
        .await
        .expect("it listens");
    let bad = wish(&format!("/ws/echo?token=x{good}"));
    stream.write_all(bad.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer))
        .await
        .expect("text");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    process.signal("TERM").await;
    drop(client);
    let (_, log) = process.end().await;
    assert!(log.contains("a token was rejected"), "{log}");
    assert!(
        !log.contains(&good) && !log.contains(SECRET),
        "a secret is in the log"
    );
}

#[tokio::test]
async fn a_hangup_takes_over_new_keys() {
    let file = Scratch::new("keys.toml", &format!("[auth]\nsecret = \"{SECRET}\"\n"));
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.path(),
        "--join=authenticated",
    ];
    let mut process = Process::start(busline(&arguments)).await;
    let claims = format!(r#"{{"exp":{}}}"#, now() + 600);
    let header = r#"{"alg":"HS256"}"#;
    let old = token(header, &claims, SECRET);
    let other = SECRET.to_uppercase();
    let new = token(header, &claims, &other);
    let mut client = process.join(&format!("echo?token={old}")).await;
    file.write(&format!("[auth]\nsecret = \"{other}\"\n"));
    process.signal("HUP").await;
    let line = process.logged("settings reloaded").await;
    assert!(
        line.contains("auth.secret") && !line.contains(&other),
        "{line}"
    );
    process.join(&format!("echo?token={new}")).await;
    echoes(&mut client, "still here").await;
    file.write("");
    process.signal("HUP").await;
    process
        .logged("start the server again to let everybody in")
        .await;
}

/// Sends a text to a joined `echo` and reads it back.
async fn echoes(stream: &mut TcpStream, text: &str) {
    let sent = frame(TEXT, text.as_bytes());
    soon(stream.write_all(&sent)).await.expect("it reads");
    let mut back = vec![0; 2 + text.len()];
    soon(stream.read_exact(&mut back))
        .await
        .expect("it answers");
    assert_eq!(&back[2..], text.as_bytes());
}

/// The status of an upgrade that a page asks for.
async fn asked_from(process: &Process, origin: &str) -> String {
    let request = wish("/ws/echo").replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"));
    let mut stream = soon(TcpStream::connect(process.address))
        .await
        .expect("it listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut start = [0; 12];
    soon(stream.read_exact(&mut start))
        .await
        .expect("an answer");
    text(&start[9..]).to_owned()
}

#[tokio::test]
async fn a_hangup_takes_over_what_can_change_and_says_what_cannot() {
    let file = Scratch::new("reload.toml", "window = 9\n");
    let mut process = Process::start(busline(&[
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.path(),
    ]))
    .await;
    let mut client = process.join("echo").await;
    assert_eq!(asked_from(&process, "https://a.test").await, "403");
    file.write("window = 8\norigins = [\"https://a.test\"]\n");
    process.signal("HUP").await;
    let line = process.logged("settings reloaded").await;
    for word in [
        "taken over: origins",
        "until the next start: window: \"9\" -> \"8\"",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(asked_from(&process, "https://a.test").await, "101");
    echoes(&mut client, "still here").await;
}

#[tokio::test]
async fn a_hangup_changes_the_bounds_of_those_who_come_after_it() {
    let file = Scratch::new("bounds.toml", "");
    let arguments = ["--listen", "127.0.0.1:0", "--config", file.path()];
    let mut process = Process::start(busline(&arguments)).await;
    let mut before = Raw::on(process.join("echo").await);
    file.write("[limits]\npings = \"1/s\"\n[service.echo]\nmax_message_bytes = 4\n");
    process.signal("HUP").await;
    process.logged("settings reloaded").await;
    let mut long = Raw::on(process.join("echo").await);
    long.send(&frame(TEXT, b"12345")).await;
    assert_eq!(long.closed().await.0, 1009);
    let mut pinging = Raw::on(process.join("ping").await);
    let ping = frame(PING, b"");
    pinging.send(&ping.repeat(3)).await;
    assert_eq!(pinging.closed().await.0, 1008);
    before.send(&ping.repeat(3)).await;
    before.send(&frame(TEXT, b"12345")).await;
    for _ in 0..3 {
        assert_eq!(before.frame().await.0, PONG);
    }
    assert_eq!(before.frame().await, (TEXT, b"12345".to_vec()));
}

#[tokio::test]
async fn a_hangup_with_a_broken_file_keeps_the_old_one_and_says_why() {
    let file = Scratch::new("broken.toml", "origins = [\"https://a.test\"]\n");
    let mut process = Process::start(busline(&[
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.path(),
    ]))
    .await;
    let mut client = process.join("echo").await;
    file.write("origins = []\n[limits]\nhandshakes = \"many\"\n");
    process.signal("HUP").await;
    process.logged("the old ones stay").await;
    let line = process.logged("limits.handshakes").await;
    assert!(line.contains(&format!("{}:3: ", file.path())), "{line}");
    echoes(&mut client, "still here").await;
    assert_eq!(asked_from(&process, "https://a.test").await, "101");
}
