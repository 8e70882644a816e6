//! Clients of browsers and Node: npm `partysocket` unchanged, the whiteboard's page in a headless
//! Chromium, the client of `clients/js` in both, and an `EventSource` in a page. Skipped with a
//! message where Node, npm or Chromium is missing.

use std::path::PathBuf;
use std::process::{Command as Blocking, Stdio};
use std::sync::OnceLock;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use busline::rt::Tokio;
use busline::server::{Listeners, bind, routes};
use busline::service::ping;
use busline::{App, Context};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::{Server, soon};

#[path = "../../examples/whiteboard/service.rs"]
mod whiteboard;

#[path = "../../examples/dashboard/site.rs"]
mod dashboard;

#[path = "../../examples/tokens/site.rs"]
mod tokens;

/// The files that Node needs.
const FILES: [&str; 14] = [
    "tests/node/package.json",
    "tests/node/package-lock.json",
    "tests/node/partysocket.mjs",
    "tests/node/whiteboard.mjs",
    "tests/node/harness.mjs",
    "tests/node/client.mjs",
    "tests/node/page.mjs",
    "tests/node/events.mjs",
    "tests/node/presence.mjs",
    "tests/node/tokens.mjs",
    "tests/node/dashboard.mjs",
    "clients/js/busline.js",
    "clients/js/README.md",
    "docs/subprotocol.md",
];

/// The client of the pages.
const CLIENT: &str = include_str!("../../clients/js/busline.js");

const BUSLINE: &str = env!("CARGO_BIN_EXE_busline");

/// Chromium takes longer to start than anything else here takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// A folder with the scripts and the packages of their lock file, outside of the tree; `None` where
/// there is no Node.
fn scripts() -> Option<&'static PathBuf> {
    static SCRIPTS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let installed = || {
        let tree = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("node");
        std::fs::create_dir_all(&folder).ok()?;
        for file in FILES {
            let file = tree.join(file);
            std::fs::copy(&file, folder.join(file.file_name()?)).ok()?;
        }
        let mut npm = Blocking::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        let done = npm.current_dir(&folder).status().ok()?;
        done.success().then_some(folder)
    };
    SCRIPTS.get_or_init(installed).as_ref()
}

/// The path of Chromium, if it is installed.
fn chromium() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().map(str::to_owned).find_map(|name| {
        let found = Blocking::new("which").arg(name).output().ok()?;
        let path = String::from_utf8(found.stdout).ok()?;
        found.status.success().then(|| path.trim().to_owned())
    })
}

fn node(script: &str, arguments: &[String]) -> Option<Child> {
    let folder = scripts()?;
    let mut node = Command::new("node");
    node.arg(folder.join(script)).args(arguments);
    node.stdout(Stdio::piped());
    node.stderr(Stdio::piped()).kill_on_drop(true);
    node.spawn().ok()
}

async fn chat(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        ctx.publish(message);
    }
}

fn serve_chat(listeners: Listeners) -> Server {
    Server::start_on(listeners, |app| {
        app.room("chat", chat)?.service("ping", ping)
    })
}

#[tokio::test]
async fn partysocket_talks_and_comes_back_after_a_restart() {
    let listeners = bind("localhost:0").await.expect("loopback has free ports");
    let mut server = serve_chat(listeners);
    let port = server.address().port();
    let Some(mut client) = node("partysocket.mjs", &[port.to_string()]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    let stdout = client.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    let next = timeout(PATIENCE, lines.next_line()).await;
    let line = next.expect("in time").expect("it is read");
    assert_eq!(line.as_deref(), Some("ready"));
    server.drain();
    assert_eq!(server.ended().await, Ok(()));
    let again = bind(&format!("localhost:{port}")).await;
    let _server = serve_chat(again.expect("the port is free again"));
    let next = timeout(PATIENCE, lines.next_line()).await;
    let line = next.expect("in time").expect("it is read");
    assert_eq!(line.as_deref(), Some("back"));
    assert!(soon(client.wait()).await.expect("it ends").success());
}

/// Serves a site, and has a script look at its page in Chromium.
async fn is_looked_at(site: Router, place: &str, script: &str) {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: there is no Chromium here");
        return;
    };
    let listener = TcpListener::bind("localhost:0").await.expect("free ports");
    let address = listener.local_addr().expect("it is bound");
    let _serving = tokio::spawn(async move { axum::serve(listener, site).await });
    let url = format!("http://localhost:{}{place}", address.port());
    let Some(pages) = node(script, &[url, chromium]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    says_ok(pages).await;
}

#[tokio::test]
async fn pages_of_the_whiteboard_see_each_other_draw_and_leave() {
    let app = App::builder(Tokio::current());
    let app = app.room_with("board", whiteboard::whiteboard, whiteboard::policy());
    let app = app.expect("a valid name").build();
    let page = include_str!("../../examples/whiteboard/page.html");
    let client = ([(CONTENT_TYPE, "text/javascript")], CLIENT);
    let site = Router::new()
        .route("/", get(async move || Html(page)))
        .route("/busline.js", get(async move || client))
        .nest("/live", routes(app));
    is_looked_at(site, "/#tea", "whiteboard.mjs").await;
}

#[tokio::test]
async fn a_page_that_is_reloaded_in_the_middle_of_an_answer_goes_on_where_it_was() {
    let site = tokens::site(Tokio::current(), tokens::PACE).expect("a valid policy");
    is_looked_at(site, "/", "tokens.mjs").await;
}

#[tokio::test]
async fn a_page_of_the_dashboard_sees_the_newest_state_at_once_and_how_many_watch() {
    // The next state comes after the test.
    let pace = std::time::Duration::from_secs(3_600);
    let site = dashboard::site(Tokio::current(), pace).expect("a valid policy");
    is_looked_at(site, "/", "dashboard.mjs").await;
}

/// Waits for the end of a script, which says `ok` alone where all is well.
async fn says_ok(script: Child) {
    let output = timeout(PATIENCE, script.wait_with_output()).await;
    let output = output.expect("in time").expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said == "ok\n", "{said}{failed}");
}

#[tokio::test]
async fn the_client_in_node_has_each_message_once_or_is_told() {
    let Some(script) = node("client.mjs", &[BUSLINE.to_owned()]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    says_ok(script).await;
}

#[tokio::test]
async fn the_documented_list_of_clients_has_each_client_that_is_there() {
    let Some(script) = node("presence.mjs", &[BUSLINE.to_owned()]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    says_ok(script).await;
}

#[tokio::test]
async fn the_client_in_pages_has_each_message_once() {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: there is no Chromium here");
        return;
    };
    let Some(script) = node("page.mjs", &[BUSLINE.to_owned(), chromium]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    says_ok(script).await;
}

#[tokio::test]
async fn an_event_source_in_a_page_misses_nothing_and_is_told_of_a_crash() {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: there is no Chromium here");
        return;
    };
    let Some(script) = node("events.mjs", &[BUSLINE.to_owned(), chromium]) else {
        eprintln!("skipped: there is no Node with npm here, or its packages cannot be had");
        return;
    };
    says_ok(script).await;
}
