//! What operators see, on their own listener.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;

use busline::limits::Tell;
use busline::server::{bind, serve_admin};
use busline::service::echo;
use busline::{Context, ServicePolicy};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::http::{Answer, ask};
use crate::raw::{Raw, close, wish};
use crate::server::{Server, soon};

/// The operators' listener of a server.
pub(crate) struct Operators {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Operators {
    pub(crate) async fn of(server: &Server) -> Self {
        let listeners = bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listeners.addresses().expect("it is bound")[0];
        let app = server.app().clone();
        let task = tokio::spawn(async move { match serve_admin(listeners, app).await {} });
        Self { address, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the head of a request and leaves the answer to be read.
    pub(crate) async fn request(&self, path: &str, accept: &str) -> Raw {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:1\r\nAccept: {accept}\r\n\r\n");
        let mut raw = Raw::connect_to(self.address).await;
        raw.send(head.as_bytes()).await;
        raw
    }

    pub(crate) async fn get(&self, path: &str, accept: &str) -> Answer {
        let answer = self.request(path, accept).await.end().await;
        Answer::parse(&String::from_utf8(answer).expect("text"))
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path, "*/*").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        serde_json::from_str(answer.body()).expect("JSON")
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// Name, kind, labels and help of each metric.
type Families = BTreeMap<String, (String, String, String)>;

/// What the table of the documentation says.
fn documented() -> Families {
    let table = include_str!("../../docs/metrics.md");
    let rows = table.lines().filter(|line| line.starts_with("| `busline_"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else {
            panic!("not four cells: {line}");
        };
        let bare = |cell: &str| cell.replace('`', "");
        (bare(name), (bare(kind), bare(labels), help.to_owned()))
    };
    rows.map(row).collect()
}

/// What an exposition in OpenMetrics says.
fn exposed(text: &str) -> Families {
    let mut families = Families::new();
    let mut help = "";
    let mut name = "";
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            (name, help) = described.split_once(' ').expect("a name and a help");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let kind = typed.split(' ').nth(1).expect("a kind").to_owned();
            let family = (kind, String::new(), help.to_owned());
            families.insert(name.to_owned(), family);
        } else if let Some((_, rest)) = line.split_once('{') {
            let (labels, _) = rest.split_once('}').expect("labels");
            let labels = labels
                .split(',')
                .filter_map(|label| label.split('=').next());
            let labels: Vec<_> = labels.filter(|label| *label != "le").collect();
            if !labels.is_empty() {
                families.get_mut(name).expect("described").1 = labels.join(", ");
            }
        }
    }
    families
}

#[tokio::test]
async fn the_metrics_are_those_of_the_table() {
    let mut chat = ServicePolicy::of_rooms();
    chat.presence.tell = Tell::All;
    let server =
        Server::start(|app| app.service("echo", echo)?.room_with("chat", echo, chat)).await;
    let operators = Operators::of(&server).await;
    let mut client = Client::connect(&server, "echo").await;
    client.round_trip("hello").await;
    let answer = operators.get("/metrics", OPEN_METRICS).await;
    let media_type = answer.header("content-type").expect("a type");
    assert!(
        media_type.starts_with("application/openmetrics-text;"),
        "{media_type}"
    );
    assert!(answer.body().ends_with("# EOF\n"));
    assert_eq!(exposed(answer.body()), documented());
}

#[tokio::test]
async fn the_metrics_count_what_happens() {
    let server = Server::standard().await;
    let operators = Operators::of(&server).await;
    let mut client = Client::connect(&server, "echo").await;
    for _ in 0..3 {
        client.round_trip("hello").await;
    }
    client.close(1000, "").await;
    server.until_left("echo").await;
    server
        .until("it has ended", |server| server.app().sessions_closed() == 1)
        .await;
    let answer = operators.get("/metrics", OPEN_METRICS).await;
    for line in [
        "busline_messages_received_total 3",
        "busline_messages_sent_total 3",
        "busline_received_bytes_total 15",
        "busline_publish_to_written_seconds_count 3",
        "busline_publish_to_written_seconds_bucket{le=\"+Inf\"} 3",
        "busline_join_to_running_seconds_count 1",
        "busline_sessions_closed_total{reason=\"peer_closed\"} 1",
        "busline_service_starts_total{service=\"echo\"} 1",
        "busline_sessions 0",
    ] {
        assert!(
            answer.body().lines().any(|l| l == line),
            "{line}:\n{}",
            answer.body()
        );
    }
}

#[tokio::test]
async fn the_checker_of_prometheus_accepts_the_metrics() {
    let server = Server::standard().await;
    let operators = Operators::of(&server).await;
    let answer = operators.get("/metrics", "*/*").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let mut command = Command::new("promtool");
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped());
    let Ok(mut promtool) = command.stderr(Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no promtool here");
        return;
    };
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin
        .write_all(answer.body().as_bytes())
        .await
        .expect("it reads");
    drop(stdin);
    let output = soon(promtool.wait_with_output()).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn a_server_that_drains_is_not_ready_while_it_still_serves() {
    let mut server = Server::standard().await;
    let operators = Operators::of(&server).await;
    assert_eq!(operators.get("/readyz", "*/*").await.status, 200);
    let mut holding = Raw::join(&server, "echo").await;
    server.drain();
    server
        .until("it drains", |server| server.app().is_draining())
        .await;
    assert_eq!(operators.get("/readyz", "*/*").await.status, 503);
    assert_eq!(
        operators.get("/healthz", "*/*").await.status,
        200,
        "it is healthy"
    );
    assert_eq!(holding.closed().await.0, 1001);
    holding.send(&close(1001)).await;
    holding.end().await;
    drop(holding);
    assert_eq!(server.ended().await, Ok(()));
}

async fn fails(mut ctx: Context) -> Result<(), &'static str> {
    match ctx.recv().await {
        Some(_) => Err("the disk is full"),
        None => Ok(()),
    }
}

#[tokio::test]
async fn the_services_are_told_with_their_last_crash() {
    let server = Server::start(|app| app.service("fails", fails)).await;
    let operators = Operators::of(&server).await;
    let stopped = operators.json("/debug/services").await;
    assert_eq!(
        (&stopped[0]["state"], &stopped[0]["last_crash"]),
        (&"stopped".into(), &Value::Null)
    );
    let mut client = Client::connect(&server, "fails").await;
    client.send("go").await;
    let crashed = |server: &Server| server.status("fails").counts.starts == 2;
    server.until("it runs again", crashed).await;
    let services = operators.json("/debug/services").await;
    let service = &services[0];
    assert_eq!(service["service"], "fails");
    assert_eq!(service["state"], "running");
    assert_eq!(
        (&service["generation"], &service["clients"]),
        (&2.into(), &1.into())
    );
    assert_eq!(service["restarts"], 1);
    assert_eq!(service["last_crash"]["generation"], 1);
    assert_eq!(
        service["last_crash"]["reason"],
        "returned an error: the disk is full"
    );
    assert!(service["last_crash"]["unix_seconds"].as_f64() > Some(1.7e9));
}

#[tokio::test]
async fn the_rooms_of_a_kind_are_told_in_pages() {
    let server = Server::start(|app| app.room("chat", echo)?.service("echo", echo)).await;
    let operators = Operators::of(&server).await;
    let mut clients = Vec::new();
    for key in ["b", "a%20c", "a", "a"] {
        clients.push(Client::connect(&server, &format!("chat/{key}")).await);
    }
    let services = operators.json("/debug/services").await;
    let chat = &services[0];
    assert_eq!(
        (&chat["service"], &chat["rooms"]),
        (&"chat".into(), &3.into())
    );
    assert_eq!((&chat["clients"], &chat["starts"]), (&4.into(), &3.into()));
    assert_eq!(chat["state"], Value::Null, "each room has its own");
    assert_eq!(services[1]["rooms"], Value::Null, "a service has none");
    let keys = async |query: &str| {
        let path = format!("/debug/services?rooms=chat{query}");
        let listed = operators.json(&path).await;
        assert_eq!(listed["next_after"], Value::Null, "it fits on one page");
        let rooms = listed["rooms"].as_array().expect("a list").clone();
        let keys = rooms
            .iter()
            .map(|room| room["key"].as_str().map(str::to_owned));
        keys.collect::<Option<Vec<_>>>().expect("texts")
    };
    assert_eq!(keys("").await, ["a", "a c", "b"]);
    assert_eq!(keys("&prefix=a").await, ["a", "a c"]);
    assert_eq!(keys("&after=a%20c").await, ["b"]);
    assert_eq!(keys("&prefix=x").await, [""; 0]);
    let listed = operators.json("/debug/services?rooms=chat").await;
    let room = &listed["rooms"][0];
    assert_eq!(
        (&room["state"], &room["clients"]),
        (&"running".into(), &2.into())
    );
    let none = operators.json("/debug/services?rooms=none").await;
    assert_eq!(none["rooms"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn the_topics_are_told_by_name_and_by_prefix() {
    let server = Server::standard().await;
    let operators = Operators::of(&server).await;
    let mut client = Client::connect(&server, "echo").await;
    let _other = Client::connect(&server, "ping").await;
    client.round_trip("hello").await;
    let topics = operators.json("/debug/topics?prefix=echo:").await;
    let names = topics["topics"].as_array().expect("a list");
    let names: Vec<_> = names.iter().map(|topic| topic["topic"].as_str()).collect();
    let expected = [
        "echo:from-service-to-ws",
        "echo:from-service-to-ws:1",
        "echo:from-ws-to-service",
    ];
    assert_eq!(names, expected.map(Some));
    let own = &topics["topics"][1];
    assert_eq!(
        (&own["published"], &own["delivered"]),
        (&1.into(), &1.into())
    );
    let all = operators.json("/debug/topics").await;
    assert_eq!(all["topics"].as_array().map(Vec::len), Some(6));
}

#[tokio::test]
async fn a_client_and_a_topic_can_be_watched_live() {
    let server = Server::standard().await;
    let operators = Operators::of(&server).await;
    let mut client = Client::connect(&server, "echo").await;
    let number = server.app().counts().sessions.opened;
    let path = format!("/debug/tap?client={number}");
    let mut by_client = operators.request(&path, "text/event-stream").await;
    let inbox = "/debug/tap?topic=echo:from-ws-to-service";
    let mut by_topic = operators.request(inbox, "text/event-stream").await;
    for raw in [&mut by_client, &mut by_topic] {
        let head = raw.head().await;
        assert!(head.contains("text/event-stream"), "{head}");
    }
    client.round_trip("a secret").await;
    let told = by_client.until("\"written\"").await;
    assert!(
        told.contains("\"received\"") && told.contains("\"queued\""),
        "{told}"
    );
    let told = told + &by_topic.until("\"published\"").await;
    assert!(!told.contains("secret"), "{told}");
    drop((by_client, by_topic));
    server
        .until("the taps are gone", |server| server.app().bus().taps() == 0)
        .await;
    let gone = operators.get("/debug/tap?client=999", "*/*").await;
    assert_eq!(
        (gone.status, gone.body()),
        (404, "no client 999 is connected\n")
    );
    for bad in ["", "?client=x", "?topic=a%20b", "?client=1&topic=a"] {
        assert_eq!(
            operators
                .get(&format!("/debug/tap{bad}"), "*/*")
                .await
                .status,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn none_of_it_is_on_the_public_listener() {
    let server = Server::standard().await;
    for path in [
        "/metrics",
        "/readyz",
        "/debug/services",
        "/debug/topics",
        "/debug/tap",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:1\r\n\r\n");
        assert_eq!(ask(&server, &request).await.status, 404, "{path}");
    }
    let operators = Operators::of(&server).await;
    assert_eq!(operators.get("/ws/echo", "*/*").await.status, 404);
    let request = wish("/ws/echo");
    let mut raw = Raw::connect_to(operators.address).await;
    raw.send(request.as_bytes()).await;
    assert!(
        raw.head().await.starts_with("HTTP/1.1 404 "),
        "no client gets in here"
    );
}
