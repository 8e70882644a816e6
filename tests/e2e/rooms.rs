//! Rooms over real sockets: their addresses, their isolation, and their end.

use busline::registry::{Page, State};
use busline::{Context, Limits, ServicePolicy};

use crate::client::Client;
use crate::http::ask;
use crate::raw::{Raw, wish};
use crate::server::Server;

/// Tells each client of its room the room's key, as JSON, then repeats what they say.
async fn chat(mut ctx: Context) {
    ctx.publish(format!("{:?}", ctx.key()));
    while let Some(message) = ctx.recv().await {
        ctx.publish(message);
    }
}

async fn server(limits: Limits) -> Server {
    let mut policy = ServicePolicy::of_rooms();
    policy.lifecycle.linger = std::time::Duration::ZERO;
    Server::start(|app| {
        let app = app.limits(limits).room_with("chat", chat, policy)?;
        app.service("echo", busline::service::echo)
    })
    .await
}

#[tokio::test]
async fn a_key_is_decoded_once_from_one_part_of_the_path() {
    let server = server(Limits::default()).await;
    for (path, key) in [
        ("chat/42", "42"),
        ("chat/a%2Fb", "a/b"),
        ("chat/a%20b", "a b"),
        ("chat/%2541", "%41"),
        ("chat/%7E!'()*;:@&=+,.-_", "~!'()*;:@&=+,.-_"),
        ("chat/%23%3F%25", "#?%"),
        ("chat/..", ".."),
        ("chat/from-service-to-ws:7", "from-service-to-ws:7"),
        ("chat/1?token=x", "1"),
    ] {
        let mut client = Client::connect(&server, path).await;
        assert_eq!(client.text().await, format!("{key:?}"), "{path}");
        client.round_trip("hello").await;
    }
}

#[tokio::test]
async fn every_byte_of_a_key_is_a_room_of_its_own_or_refused_by_name() {
    let server = server(Limits::default()).await;
    for byte in 0..=0xff_u8 {
        let path = format!("/ws/chat/%{byte:02X}");
        let mut raw = Raw::connect(&server).await;
        raw.send(wish(&path).as_bytes()).await;
        let head = raw.head().await;
        let expected = match byte {
            // A key that begins with `$` needs a grant.
            b'$' => "HTTP/1.1 403 ",
            0x20..=0x7e => "HTTP/1.1 101 ",
            _ => "HTTP/1.1 404 ",
        };
        assert!(head.starts_with(expected), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_path_to_no_room_says_which_paths_there_are() {
    let server = server(Limits::default()).await;
    let long = format!("/ws/chat/{}", "k".repeat(251));
    for (path, text) in [
        (
            "/ws/chat",
            "this service has rooms, so name one: chat/<key>",
        ),
        (
            "/ws/chat/",
            "this service has rooms, so name one: chat/<key>",
        ),
        ("/ws/echo/1", "this service has no rooms: use echo"),
        (
            "/ws/none/1",
            "there is no such service; there are: chat/<key>, echo",
        ),
        (
            "/ws/none",
            "there is no such service; there are: chat/<key>, echo",
        ),
        ("/ws/chat/a/b", "there is nothing here"),
        (
            "/ws/chat/%07",
            "the character at byte 0 is not allowed there; a key is",
        ),
        (&*long, "the name has 251 bytes, 250 are allowed; a key is"),
    ] {
        let answer = ask(&server, &wish(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body().contains(text), "{path}: {}", answer.body());
    }
    let index = ask(
        &server,
        "GET / HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        index.body().contains("/ws/chat/lobby\n"),
        "{}",
        index.body()
    );
}

#[tokio::test]
async fn no_message_reaches_another_room_and_a_room_that_is_over_is_gone() {
    let server = server(Limits::default()).await;
    let mut clients = Vec::new();
    for key in ["a", "b"] {
        let mut client = Client::connect(&server, &format!("chat/{key}")).await;
        assert_eq!(client.text().await, format!("{key:?}"));
        clients.push(client);
    }
    for (at, said) in [(0, "to a"), (1, "to b")] {
        clients[at].send(said).await;
    }
    for (client, said) in clients.iter_mut().zip(["to a", "to b"]) {
        assert_eq!(client.text().await, said);
    }
    for client in clients {
        assert_eq!(client.close(1000, "").await.0, 1000);
    }
    let over = |server: &Server| server.app().registry().rooms_open() == 0;
    server.until("the rooms are gone", over).await;
    let none = |server: &Server| server.app().counts().bus.topics == 0;
    server.until("their topics are gone", none).await;
}

#[tokio::test]
async fn one_room_too_many_is_refused_and_one_that_is_there_is_joined() {
    let limits = Limits {
        rooms_per_address: 1,
        ..Limits::default()
    };
    let server = server(limits).await;
    let mut first = Client::connect(&server, "chat/1").await;
    assert_eq!(first.text().await, "\"1\"");
    let answer = ask(&server, &wish("/ws/chat/2")).await;
    assert_eq!(answer.status, 503);
    let expected = "clients of your address have made all 1 rooms that they may\n";
    assert_eq!(answer.body(), expected);
    let _second = Client::connect(&server, "chat/1").await;
    let page = Page {
        prefix: "",
        after: None,
        max: 10,
    };
    let rooms = server.app().registry().rooms("chat", &page);
    assert_eq!(rooms.len(), 1);
    let status = server.app().registry().room_status(&rooms[0].0);
    let status = status.expect("it is there");
    assert_eq!((status.state, status.clients), (State::Running, 2));
}
