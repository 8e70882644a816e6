//! The executable: what it prints, how it ends.

use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::raw::{CLOSE, TEXT, frame, wish};
use crate::server::soon;
use crate::settings::Scratch;

pub(crate) fn busline(arguments: &[&str]) -> Command {
    program(BUSLINE, arguments)
}

const BUSLINE: &str = env!("CARGO_BIN_EXE_busline");

/// A program with nothing of our own environment in its.
fn program(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("BUSLINE_") || name.starts_with("OTEL_") {
            command.env_remove(&*name);
        }
    }
    command.env("BUSLINE_ADMIN", "off");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub(crate) async fn output(command: &mut Command) -> Output {
    soon(command.output()).await.expect("it can be run")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A running server.
pub(crate) struct Process {
    child: Child,
    greeting: Vec<String>,
    pub(crate) address: SocketAddr,
    /// Where it listens for operators, if that was looked for.
    pub(crate) operators: Option<SocketAddr>,
    log: Lines<BufReader<ChildStderr>>,
    // Kept open: a closed pipe is no business of most tests.
    _stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it can be run");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut greeting = Vec::new();
        while greeting
            .last()
            .is_none_or(|line| line != "Ctrl-C stops it.")
        {
            let line = soon(lines.next_line()).await.expect("it can be read");
            greeting.push(line.expect("a whole greeting"));
        }
        let address = greeting[0].split("http://").nth(1).expect("an address");
        let address = address
            .trim_end_matches('/')
            .replace("localhost", "127.0.0.1");
        let address = address.parse().expect("an address");
        Self {
            child,
            greeting,
            address,
            operators: None,
            log: BufReader::new(stderr).lines(),
            _stdout: Some(lines),
        }
    }

    /// The same with a listener for operators, where nobody reads standard output, which is this.
    pub(crate) async fn start_unread(mut command: Command, stdout: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(stdout).spawn().expect("it can be run");
        let stderr = child.stderr.take().expect("it is piped");
        let mut process = Self {
            child,
            greeting: Vec::new(),
            address: ([0; 4], 0).into(),
            operators: None,
            log: BufReader::new(stderr).lines(),
            _stdout: None,
        };
        let operators = "operators' listener addresses=[";
        process.operators = Some(process.logged_address(operators).await);
        process.address = process.logged_address("listening addresses=[").await;
        process
    }

    /// Reads its log up to a line with this text, and returns the address behind that.
    pub(crate) async fn logged_address(&mut self, text: &str) -> SocketAddr {
        let line = self.logged(text).await;
        let address = line
            .split(text)
            .nth(1)
            .and_then(|rest| rest.split([',', ']']).next());
        address
            .and_then(|address| address.parse().ok())
            .expect(&line)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let killed = Command::new("kill").args(["-s", name, &id]).status();
        assert!(soon(killed).await.expect("kill can be run").success());
    }

    /// Waits for its end and returns how it ended and what it wrote to standard error.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let status = soon(self.child.wait()).await.expect("it ends");
        let mut log = String::new();
        while let Some(line) = soon(self.log.next_line()).await.expect("text") {
            log.push_str(&line);
            log.push('\n');
        }
        (status.code(), log)
    }

    /// Reads its log up to a line with this text, and returns that line.
    pub(crate) async fn logged(&mut self, text: &str) -> String {
        loop {
            let line = soon(self.log.next_line()).await.expect("text");
            let line = line.expect("it still runs");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Joins a service and keeps the connection, which says nothing by itself.
    pub(crate) async fn join(&self, service: &str) -> TcpStream {
        let mut stream = soon(TcpStream::connect(self.address))
            .await
            .expect("it listens");
        let request = wish(&format!("/ws/{service}"));
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(stream.read_u8()).await.expect("a whole head"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", text(&head));
        stream
    }
}

/// Waits for the close frame of a server that goes away.
async fn going_away(stream: &mut TcpStream) {
    let mut start = [0; 4];
    soon(stream.read_exact(&mut start))
        .await
        .expect("a close frame");
    assert_eq!((start[0], &start[2..]), (0x88, &1001_u16.to_be_bytes()[..]));
}

#[tokio::test]
async fn the_greeting_names_every_service_with_a_command_to_try_it() {
    let process = Process::start(busline(&["--listen", "127.0.0.1:0"])).await;
    let address = process.address;
    assert_ne!(address.port(), 0);
    for name in ["echo", "ping", "timenow"] {
        let line = format!("  websocat ws://{address}/ws/{name}");
        assert!(
            process.greeting.contains(&line),
            "{name}: {:?}",
            process.greeting
        );
    }
    process.join("echo").await;
}

#[tokio::test]
async fn the_log_tells_where_clients_and_operators_are_served() {
    let mut command = busline(&["--listen", "127.0.0.1:0"]);
    command.env("BUSLINE_ADMIN", "127.0.0.1:0");
    let mut process = Process::start(command).await;
    let operators = process.logged("operators' listener").await;
    assert!(
        operators.contains("operators' listener addresses=[127.0.0.1:"),
        "{operators}"
    );
    let clients = process.logged("listening").await;
    let expected = format!("listening addresses=[{}]", process.address);
    assert!(clients.contains(&expected), "{clients}");
}

#[tokio::test]
async fn the_address_can_be_given_by_the_environment() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = taken.local_addr().expect("it is bound").port();
    drop(taken);
    let mut command = busline(&[]);
    command.env("BUSLINE_LISTEN", format!("127.0.0.1:{port}"));
    let process = Process::start(command).await;
    assert_eq!(process.address.port(), port);
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = output(busline(&["--listen", &address]).env("RUST_BACKTRACE", "1")).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains(&address) && error.contains("--listen"),
        "{error}"
    );
    assert_eq!(text(&output.stdout), "", "no greeting");
}

#[tokio::test]
async fn a_bad_address_is_one_clear_line() {
    for address in [
        "nonsense",
        "localhost",
        "localhost:http",
        "127.0.0.1:99999",
        ":8080",
        "256.0.0.1:8080",
        "http://localhost:8080",
        "unix:/",
        "",
    ] {
        let output = output(&mut busline(&["--listen", address])).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{address}: {error}");
        assert_eq!(error.lines().count(), 1, "{address}: {error}");
        assert!(error.contains("HOST:PORT"), "{address}: {error}");
    }
}

#[tokio::test]
async fn an_unknown_flag_is_an_error_of_usage() {
    let output = output(&mut busline(&["--lisen", "localhost:8080"])).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains("--lisen") && error.contains("--listen"),
        "{error}"
    );
}

#[tokio::test]
async fn version_and_help_are_answered() {
    let version = output(&mut busline(&["--version"])).await;
    assert!(version.status.success());
    assert_eq!(
        text(&version.stdout),
        concat!("busline ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = output(&mut busline(&["--help"])).await;
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("BUSLINE_LISTEN"));
}

#[tokio::test]
async fn logs_can_be_json_and_say_whose_they_are_but_not_what_was_said() {
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--log",
        "debug",
    ];
    let process = Process::start(busline(&arguments)).await;
    let mut stream = process.join("echo").await;
    let secret = frame(TEXT, b"a secret");
    stream.write_all(&secret).await.expect("it reads");
    let mut echo = [0; 10];
    soon(stream.read_exact(&mut echo)).await.expect("an echo");
    assert_eq!(&echo[2..], b"a secret");
    let farewell = [&1001_u16.to_be_bytes()[..], b"a secret reason"].concat();
    let farewell = frame(CLOSE, &farewell);
    stream.write_all(&farewell).await.expect("it reads");
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.expect("an end");
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("secret"), "{log}");
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).expect("JSON") };
    let lines: Vec<_> = log.lines().map(line).collect();
    let closed = lines
        .iter()
        .find(|line| line["fields"]["message"] == "session closed");
    let closed = closed.expect("it is logged");
    for (field, value) in [
        ("service", "echo".into()),
        ("client", "1".into()),
        ("address", "127.0.0.1".into()),
        ("cause", "peer_closed".into()),
        ("code", serde_json::Value::from(1001)),
    ] {
        assert_eq!(closed["span"][field], value, "{closed}");
    }
}

#[tokio::test]
async fn a_signal_drains_and_ends_it_well() {
    for name in ["TERM", "INT"] {
        let process = Process::start(busline(&["--listen", "127.0.0.1:0"])).await;
        let mut stream = process.join("ping").await;
        process.signal(name).await;
        going_away(&mut stream).await;
        drop(stream);
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0), "{name}: {log}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let process = Process::start(busline(&["--listen", "127.0.0.1:0"])).await;
    let mut holding = process.join("ping").await;
    process.signal("TERM").await;
    going_away(&mut holding).await;
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    drop(holding);
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_named_and_the_end_is_no_good_one() {
    let arguments = ["--listen", "127.0.0.1:0", "--limits-drain-timeout", "100ms"];
    let process = Process::start(busline(&arguments)).await;
    let mut holding = process.join("ping").await;
    process.signal("TERM").await;
    going_away(&mut holding).await;
    // It answers no close, which is waited for longer than that.
    let (code, log) = process.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("1 sessions and the services []"), "{log}");
    drop(holding);
}

#[tokio::test]
async fn completions_and_the_manual_are_printed() {
    for (arguments, word) in [
        (&["completions", "bash"][..], "--limits-sessions"),
        (&["completions", "fish"], "complete -c busline"),
        (&["man"], ".TH busline"),
        (&["man"], "BUSLINE_AUTH_SECRET"),
    ] {
        let output = output(&mut busline(arguments)).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        assert!(printed.contains(word), "{word}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn as_many_files_are_opened_as_may_be_and_too_few_are_told_of() {
    let script = "ulimit -Sn 100; ulimit -Hn 200; exec \"$0\" \"$@\"";
    let arguments = ["-c", script, BUSLINE, "--listen", "127.0.0.1:0"];
    let limits = ["--threads", "1", "--limits-sessions", "5000"];
    let command = program("sh", &[&arguments[..], &limits].concat());
    let mut process = Process::start(command).await;
    let told = process.logged("limits.sessions is 5000").await;
    assert!(told.contains("may open 200 files"), "{told}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id()));
    let limits = limits.expect("it runs");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words = files.expect(&limits).split_whitespace().collect::<Vec<_>>();
    assert_eq!(words[3..5], ["200", "200"], "{limits}");
}

/// Where systemd would listen.
#[cfg(target_os = "linux")]
struct Systemd(tokio::net::UnixDatagram, Scratch);

#[cfg(target_os = "linux")]
impl Systemd {
    fn new(name: &str) -> Self {
        let path = Scratch::new(name, "");
        std::fs::remove_file(&path).expect("it is there");
        let socket = tokio::net::UnixDatagram::bind(&path).expect("a free path");
        Self(socket, path)
    }

    async fn told(&self) -> String {
        let mut told = [0; 64];
        let length = soon(self.0.recv(&mut told)).await.expect("a word");
        text(&told[..length]).to_owned()
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_that_systemd_hands_over_is_served() {
    let handed = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = handed.local_addr().expect("it is bound");
    // Whom it is handed to is named by a number that only the process itself knows.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null";
    // What it would listen on itself is taken: it does not.
    let arguments = ["-c", script, BUSLINE, "--listen", &address.to_string()];
    let mut command = program("sh", &arguments);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(handed)));
    let process = Process::start(command).await;
    assert_eq!(process.address, address);
    drop(process.join("echo").await);
    process.signal("TERM").await;
    assert_eq!(process.end().await.0, Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let systemd = Systemd::new("notify");
    let mut command = busline(&["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", systemd.1.path());
    let mut process = Process::start(command).await;
    assert_eq!(systemd.told().await, "READY=1");
    let holding = process.join("ping").await;
    process.signal("TERM").await;
    assert_eq!(systemd.told().await, "STOPPING=1");
    process.signal("HUP").await;
    process.logged("settings reloaded").await;
    drop(holding);
    assert_eq!(process.end().await.0, Some(0));
    let more = systemd.0.try_recv(&mut [0; 64]);
    assert!(more.is_err(), "a server that stops is never ready again");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn systemd_is_told_of_each_reload_whatever_comes_of_it() {
    fn microseconds() -> i64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    }
    let systemd = Systemd::new("notify-reload");
    let file = Scratch::new("notify-reload.toml", "");
    let mut command = busline(&["--listen", "127.0.0.1:0", "--config", file.path()]);
    command.env("NOTIFY_SOCKET", systemd.1.path());
    let mut process = Process::start(command).await;
    assert_eq!(systemd.told().await, "READY=1");
    for (text, said) in [("", "settings reloaded"), ("a = 1", "the old ones stay")] {
        file.write(text);
        let before = microseconds();
        process.signal("HUP").await;
        let told = systemd.told().await;
        let at = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let at: i64 = at.and_then(|at| at.parse().ok()).expect(&told);
        assert!((before..=microseconds()).contains(&at), "{told}");
        assert_eq!(systemd.told().await, "READY=1");
        process.logged(said).await;
    }
}
