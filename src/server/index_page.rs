//! `/`: lists the services for a person, with a way to try each.

use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};

use super::accept::{MediaType, prefers};
use crate::registry::Registry;
use crate::rt::Runtime;

const HTML: MediaType = MediaType {
    of: "text",
    sub: "html",
    version: None,
};

const PLAIN: MediaType = MediaType {
    of: "text",
    sub: "plain",
    version: None,
};

/// The key of the room that is shown as an example of its kind.
const KEY: &str = "lobby";

/// The page for a browser; `{{services}}` stands for one option for each service.
const PAGE: &str = include_str!("index_page.html");

/// A small page for a browser, plain text for other clients; `nest` is the path that the routes are
/// nested under.
pub(super) fn index<R: Runtime>(
    registry: &Registry<R>,
    nest: &str,
    headers: &HeaderMap,
) -> Response {
    let paths = registry.paths(KEY);
    if prefers(headers, HTML, PLAIN) {
        let options = paths.map(|path| format!("<option>{path}</option>"));
        let page = PAGE.replace("{{services}}", &options.collect::<String>());
        let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; frame-ancestors 'none'";
        ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
    } else {
        text(paths, &format!("{}{nest}", host(headers))).into_response()
    }
}

/// The list of services, with a command line to try each.
fn text(paths: impl Iterator<Item = String>, host: &str) -> String {
    let paths: Vec<_> = paths.collect();
    let line = |path: &String| format!("  websocat ws://{host}/ws/{path}\n");
    let lines = paths.iter().map(line).collect::<String>();
    let curl = paths.first().map(|path| {
        format!("\nWithout a WebSocket, to read only:\n\n  curl -N http://{host}/sse/{path}\n")
    });
    format!(
        "busline: services on a message bus. Try one:\n\n{lines}{}",
        curl.unwrap_or_default()
    )
}

/// The host that the client used; a default if the header is missing or empty.
fn host(headers: &HeaderMap) -> &str {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    host.filter(|host| !host.is_empty())
        .unwrap_or("localhost:8080")
}
