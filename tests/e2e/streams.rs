//! The standard streams of the executable: closed, full, or with a reader that does not read.

use std::io::{PipeWriter, Write, pipe};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Process, busline, text};
use crate::server::soon;
use crate::settings::Scratch;

/// A pipe that nobody reads any more.
fn closed() -> PipeWriter {
    let (reader, writer) = pipe().expect("there are descriptors");
    drop(reader);
    writer
}

#[cfg(target_os = "linux")]
fn full() -> std::fs::File {
    let options = std::fs::File::options().write(true).open("/dev/full");
    options.expect("Linux has it")
}

/// The answer to a request of HTTP.
async fn get(address: SocketAddr, path: &str) -> String {
    let stream = soon(TcpStream::connect(address)).await;
    let mut stream = stream.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let sent = soon(stream.write_all(request.as_bytes())).await;
    sent.expect("it reads");
    let mut answer = String::new();
    let read = soon(stream.read_to_string(&mut answer)).await;
    read.expect("text");
    answer
}

/// How many lines of the log were dropped.
async fn dropped(operators: SocketAddr) -> u64 {
    let metrics = get(operators, "/metrics").await;
    let name = "busline_log_lines_dropped_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.parse().ok()).expect(&metrics)
}

/// A stream that is full, and its reader, which does not read.
fn unread() -> (OwnedFd, UnixStream) {
    let (mut full, reader) = UnixStream::pair().expect("there are descriptors");
    full.set_nonblocking(true).expect("it is open");
    while full.write(&[b' '; 1024]).is_ok() {}
    full.set_nonblocking(false).expect("it is open");
    (full.into(), reader)
}

/// A server that logs much.
fn talkative(arguments: &[&str]) -> Command {
    let log = ["--log", "trace", "--log-lines", "100"];
    let mut command = busline(&["--listen", "127.0.0.1:0"]);
    command.args(log).args(arguments);
    command.env("BUSLINE_ADMIN", "127.0.0.1:0");
    command
}

/// Fills the log of a server with lines that nobody reads; where its operators listen.
///
/// So many are not dropped because the thread that writes is slow: it is held.
async fn stall(process: &Process) -> SocketAddr {
    let operators = process.operators.expect("they are listened for");
    while dropped(operators).await < 1000 {
        drop(process.join("echo").await);
    }
    operators
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_no_client_and_tells_later_what_was_dropped() {
    let mut process = Process::start_unread(talkative(&[]), Stdio::null()).await;
    let operators = stall(&process).await;
    let client = process.join("ping").await;
    let health = get(process.address, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    let line = process.logged("lines of the log were dropped").await;
    let told = line.split("lines=").nth(1);
    let told: u64 = told.and_then(|count| count.parse().ok()).expect(&line);
    assert!((1..=dropped(operators).await).contains(&told), "{line}");
    drop(client);
}

#[tokio::test]
async fn a_server_of_whose_streams_nobody_reads_any_drains_and_ends_well() {
    let (stdout, _reader) = unread();
    let process = Process::start_unread(talkative(&[]), stdout).await;
    stall(&process).await;
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_tells_its_end_with_its_exit_code() {
    let command = talkative(&["--limits-drain-timeout", "100ms"]);
    let process = Process::start_unread(command, Stdio::null()).await;
    stall(&process).await;
    let holding = process.join("ping").await;
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(1), "{log}");
    drop(holding);
}

/// Serves a client with this for its standard output, and ends well.
async fn serves(stdout: impl Into<Stdio>) {
    let process = Process::start_unread(talkative(&[]), stdout).await;
    drop(process.join("echo").await);
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_server_without_a_reader_of_its_greeting_serves() {
    serves(closed()).await;
    #[cfg(target_os = "linux")]
    serves(full()).await;
    let (unread, _reader) = unread();
    serves(unread).await;
}

/// Runs it to its end, with its standard streams as they are set.
async fn ended(command: &mut Command) -> Output {
    let child = command.spawn().expect("it can be run");
    soon(child.wait_with_output()).await.expect("it ends")
}

/// Commands that print, with a file that is valid.
fn printing(file: &Scratch) -> [Vec<&str>; 6] {
    [
        vec!["config"],
        vec!["man"],
        vec!["completions", "bash"],
        vec!["--help"],
        vec!["--version"],
        vec!["check", file.path()],
    ]
}

#[tokio::test]
async fn a_command_whose_reader_is_gone_ends_without_a_word() {
    let file = Scratch::new("printed.toml", "");
    for arguments in printing(&file) {
        let output = ended(busline(&arguments).stdout(closed())).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_that_cannot_print_says_so() {
    let file = Scratch::new("unprinted.toml", "");
    for arguments in printing(&file) {
        let output = ended(busline(&arguments).stdout(full())).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        assert!(error.contains("standard output"), "{arguments:?}: {error}");
    }
}

#[tokio::test]
async fn figures_that_nobody_reads_are_no_failure() {
    let server = Process::start(busline(&["--listen", "127.0.0.1:0"])).await;
    let url = format!("ws://{}/ws/echo", server.address);
    let load = ["--clients", "1", "--messages", "10", "--wait"];
    let mut bench = busline(&["bench", "echo", "--url", &url]);
    let output = ended(bench.args(load).stdout(closed())).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[tokio::test]
async fn errors_that_nobody_reads_keep_their_exit_code() {
    for (arguments, code) in [(&["--window", "0"][..], 1), (&["--lisen", "a:1"], 2)] {
        let output = ended(busline(arguments).stderr(closed())).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}
