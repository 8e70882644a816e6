//! Pages in browsers: those of the server's own host may connect, others only where it is allowed.

use busline::origin::Origins;
use busline::service::echo;

use crate::http::ask;
use crate::raw::{Raw, wish};
use crate::server::Server;

fn from(origin: &str) -> String {
    wish("/ws/echo").replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"))
}

async fn status(server: &Server, request: &str) -> String {
    let mut raw = Raw::connect(server).await;
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    head.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn a_foreign_page_is_refused_and_the_servers_own_is_not() {
    let server = Server::standard().await;
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost:81",
        "",
        "\u{e9}",
    ] {
        let answer = ask(&server, &from(origin)).await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
    for origin in ["http://localhost", "https://localhost"] {
        assert_eq!(status(&server, &from(origin)).await, "101", "{origin}");
    }
}

#[tokio::test]
async fn two_origins_are_none_that_may_connect() {
    let server = Server::standard().await;
    let two = from("http://localhost\r\nOrigin: http://localhost");
    assert_eq!(ask(&server, &two).await.status, 403);
}

#[tokio::test]
async fn a_page_on_the_list_may_connect() {
    let pattern = "https://*.example.com".parse().expect("a pattern");
    let origins = Origins::new(vec![pattern]);
    let server = Server::start(|app| app.origins(origins).service("echo", echo)).await;
    assert_eq!(status(&server, &from("https://a.example.com")).await, "101");
    let other = ask(&server, &from("https://example.com.evil")).await;
    assert_eq!(other.status, 403);
}
