//! Requests at the gate of each listener, in memory.

use serde_json::{Value, json};

use super::*;
use crate::client::origin::Origins;
use crate::rt::{Spawn, Tokio};
use crate::server::pipe::{Dial, pipes};
use crate::server::{serve, serve_admin, serve_probes};
use crate::service::echo;

/// The listeners of one application: for clients and for operators, each over loopback and from
/// elsewhere, and for probes.
struct Doors {
    app: App<Tokio>,
    local: Dial,
    public: Dial,
    operators: [Dial; 2],
    probes: Dial,
}

const OUTSIDE: &str = "10.0.0.7:1";

impl Doors {
    fn of(hosts: &[&str], origins: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| host.parse().expect("a pattern"));
        let origins = origins
            .iter()
            .map(|origin| origin.parse().expect("a pattern"));
        let app = App::builder(Tokio::current())
            .hosts(crate::client::host::Hosts::new(hosts.collect()))
            .origins(Origins::new(origins.collect()))
            .service("echo", echo);
        let app = app.expect("it is valid").build();
        let clients = |address| {
            let (dial, pipes) = pipes(address);
            let served = serve(pipes, app.clone(), std::future::pending());
            app.rt().spawn(Box::pin(async move { drop(served.await) }));
            dial
        };
        let operators = |address| {
            let (dial, pipes) = pipes(address);
            let served = serve_admin(pipes, app.clone());
            app.rt()
                .spawn(Box::pin(async move { match served.await {} }));
            dial
        };
        let (probes, listener) = pipes("0.0.0.0:1");
        let served = serve_probes(listener, app.clone());
        app.rt()
            .spawn(Box::pin(async move { match served.await {} }));
        Self {
            local: clients("127.0.0.1:1"),
            public: clients(OUTSIDE),
            operators: [operators("127.0.0.1:2"), operators(OUTSIDE)],
            probes,
            app,
        }
    }

    /// The refused requests that operators see.
    async fn refused(&self) -> Vec<Value> {
        let request = get("/debug/refused", "Host: localhost\r\n");
        let answer = self.operators[0].ask(&request).await;
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).expect("a list in JSON")
    }
}

/// A request for any route; it asks for an upgrade only if the headers do.
fn request(line: &str, headers: &str) -> String {
    format!(
        "{line}\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn get(path: &str, headers: &str) -> String {
    request(&format!("GET {path} HTTP/1.1"), headers)
}

const OF_CLIENTS: [&str; 4] = ["/", "/healthz", "/ws/echo", "/nothing"];

const OF_OPERATORS: [&str; 8] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/debug/services",
    "/debug/topics",
    "/debug/tap?topic=a",
    "/debug/refused",
    "/nothing",
];

#[tokio::test(start_paused = true)]
async fn a_rebound_page_gets_nothing_over_loopback_and_is_told_which_setting_lists_hosts() {
    let doors = Doors::of(&[], &["*"]);
    let rebound = "Host: rebound.example:1\r\nOrigin: http://rebound.example:1\r\n";
    for path in OF_CLIENTS {
        let answer = doors.local.ask(&get(path, rebound)).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
        assert!(answer.contains("`hosts`"), "{answer}");
    }
    let sessions = doors.app.counts().sessions;
    assert_eq!(
        sessions.refused_for(RefuseReason::Host),
        OF_CLIENTS.len() as u64
    );
    assert_eq!(sessions.opened, 0, "nobody was let in");
    assert_eq!(doors.public.status(&get("/ws/echo", rebound)).await, 101);
    for host in ["localhost:1", "a.localhost", "127.0.0.1:8080", "[::1]:1"] {
        let own = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
        assert_eq!(
            doors.local.status(&get("/ws/echo", &own)).await,
            101,
            "{host}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebound_page_gets_nothing_of_what_is_for_operators_wherever_they_listen() {
    let doors = Doors::of(&[], &["http://rebound.example:1"]);
    for operators in &doors.operators {
        for path in OF_OPERATORS {
            let answer = operators
                .ask(&get(path, "Host: rebound.example:1\r\n"))
                .await;
            assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
            assert!(answer.contains("`hosts`"), "{answer}");
        }
        for host in [
            "localhost:2",
            "10.0.0.7:8081",
            "[fd00::7]:8081",
            "127.0.0.1",
        ] {
            let asked = get("/metrics", &format!("Host: {host}\r\n"));
            assert_eq!(operators.status(&asked).await, 200, "{host}");
        }
    }
    let refused = doors.app.counts().sessions.operators_refused;
    assert_eq!(refused, 2 * OF_OPERATORS.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_listed_are_taken_and_those_of_origins_by_clients_alone() {
    let doors = Doors::of(&["bus.example"], &["https://*.app.example"]);
    let path = "/healthz";
    for (host, of_clients, of_operators) in [
        ("bus.example", 200, 200),
        ("BUS.example.:99", 200, 200),
        ("a.app.example", 200, 421),
        ("app.example", 421, 421),
    ] {
        let asked = get(path, &format!("Host: {host}\r\n"));
        assert_eq!(doors.local.status(&asked).await, of_clients, "{host}");
        assert_eq!(
            doors.operators[0].status(&asked).await,
            of_operators,
            "{host}"
        );
        assert_eq!(doors.probes.status(&asked).await, of_operators, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_gets_nothing_of_what_is_for_operators_and_holds_no_tap() {
    let doors = Doors::of(&[], &["*"]);
    for (number, page) in [
        "Sec-Fetch-Site: cross-site\r\n",
        "sec-fetch-site:  Cross-Site \r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: http://localhost:3000\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:2\r\nOrigin: http://localhost:2\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        for path in OF_OPERATORS {
            let asked = get(path, &format!("Host: localhost:2\r\n{page}"));
            assert_eq!(
                doors.operators[0].status(&asked).await,
                403,
                "{path} {page}"
            );
        }
        let refused = doors.app.counts().sessions.operators_refused;
        assert_eq!(refused, ((number + 1) * OF_OPERATORS.len()) as u64);
    }
    assert_eq!(doors.app.bus().taps(), 0);
    for page in [
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:2\r\n",
        "Sec-Fetch-Site: none\r\n",
    ] {
        let asked = get("/metrics", &format!("Host: localhost:2\r\n{page}"));
        assert_eq!(doors.operators[0].status(&asked).await, 200, "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_names_no_host_or_two_or_none_that_can_be_is_a_bad_one_on_every_route() {
    let doors = Doors::of(&["*"], &[]);
    let of_clients = OF_CLIENTS.map(|path| (&doors.local, path));
    let of_operators = OF_OPERATORS.map(|path| (&doors.operators[0], path));
    let other = [(&doors.public, "/ws/echo"), (&doors.probes, "/metrics")];
    for (door, path) in of_clients.into_iter().chain(of_operators).chain(other) {
        for headers in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host: a b/../c\r\n",
            "Host:\r\n",
        ] {
            let status = door.status(&get(path, headers)).await;
            assert_eq!(status, 400, "{path} {headers:?}");
        }
    }
    assert_eq!(doors.app.counts().sessions.opened, 0, "nobody was let in");
    // HTTP/1.0 does not require a `Host`, but refuses a wrong one.
    let old = |headers: &str| request("GET /healthz HTTP/1.0", headers);
    assert_eq!(doors.local.status(&old("")).await, 200);
    assert_eq!(doors.operators[0].status(&old("")).await, 200);
    assert_eq!(doors.local.status(&old("Host: a b\r\n")).await, 400);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_target_has_a_host_is_judged_by_that() {
    let doors = Doors::of(&[], &[]);
    for (target, host, status) in [
        ("http://evil.example/ws/echo", "evil.example", 421),
        ("http://evil.example/ws/echo", "localhost", 400),
        ("http://localhost/ws/echo", "evil.example", 400),
        ("http://user@localhost/ws/echo", "localhost", 400),
        ("http://localhost/ws/echo", "localhost:80", 101),
    ] {
        let asked = get(target, &format!("Host: {host}\r\n"));
        assert_eq!(doors.local.status(&asked).await, status, "{target} {host}");
    }
}

#[tokio::test(start_paused = true)]
async fn operators_see_which_origin_and_which_host_were_compared() {
    let doors = Doors::of(&[], &[]);
    let page = "Host: localhost:1\r\nOrigin: https://a.example\"\u{e9}\r\n";
    for _ in 0..2 {
        assert_eq!(doors.local.status(&get("/ws/echo", page)).await, 403);
    }
    let rebound = "Host: rebound.example\r\n";
    assert_eq!(doors.local.status(&get("/", rebound)).await, 421);
    let cross = "Host: 10.0.0.7\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(
        doors.operators[1].status(&get("/metrics", cross)).await,
        403
    );
    let mut refused = doors.refused().await;
    for entry in &mut refused {
        let seconds = entry
            .as_object_mut()
            .and_then(|entry| entry.remove("unix_seconds"));
        assert!(seconds.is_some_and(|seconds| seconds.as_f64() > Some(1.7e9)));
    }
    let entry = |listener: &str, reason: &str, origin: Option<&str>, host: &str| {
        json!({
            "listener": listener,
            "reason": reason,
            "origin": origin,
            "host": host,
            "times": if origin.is_some() { 2 } else { 1 },
        })
    };
    let origin = "https://a.example\\\"\\xc3\\xa9";
    let expected = [
        entry("operators", "origin", None, "10.0.0.7"),
        entry("clients", "host", None, "rebound.example"),
        entry("clients", "origin", Some(origin), "localhost:1"),
    ];
    assert_eq!(refused, expected);
}

/// RFC 9110 15.5.6: `Allow` lists the methods that the resource supports.
#[tokio::test(start_paused = true)]
async fn a_method_is_listed_as_allowed_exactly_if_it_is() {
    let doors = Doors::of(&[], &[]);
    let of_clients = OF_CLIENTS.map(|path| (&doors.local, path));
    let of_operators = OF_OPERATORS.map(|path| (&doors.operators[0], path));
    let of_probes = ["/healthz", "/readyz", "/metrics"].map(|path| (&doors.probes, path));
    let all = of_clients.into_iter().chain(of_operators).chain(of_probes);
    for (door, path) in all.filter(|(_, path)| *path != "/nothing") {
        let line = |method| request(&format!("{method} {path} HTTP/1.1"), "Host: localhost\r\n");
        let answer = door.ask(&line("DELETE")).await.to_lowercase();
        let listed = answer.lines().find_map(|line| line.strip_prefix("allow:"));
        let listed: Vec<_> = listed.expect(path).split(',').map(str::trim).collect();
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
        ] {
            // A tap is endless.
            if (path, method) == ("/debug/tap?topic=a", "GET") {
                continue;
            }
            let is_allowed = door.status(&line(method)).await != 405;
            let is_listed = listed.contains(&method.to_lowercase().as_str());
            assert_eq!(is_listed, is_allowed, "{method} {path}: {listed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn probes_are_answered_and_nothing_else_is_where_they_listen() {
    let doors = Doors::of(&[], &[]);
    let status = async |path| {
        doors
            .probes
            .status(&get(path, "Host: 10.0.0.7:1\r\n"))
            .await
    };
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    for path in OF_OPERATORS
        .into_iter()
        .filter(|path| path.starts_with("/debug"))
    {
        assert_eq!(status(path).await, 404, "{path}");
    }
    for path in ["/", "/ws/echo"] {
        assert_eq!(status(path).await, 404, "{path}");
    }
    doors.app.drain();
    assert_eq!(status("/readyz").await, 503);
}
