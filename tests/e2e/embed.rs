//! busline's routes inside an axum application of somebody else.

use axum::Router;
use axum::routing::get;
use busline::App;
use busline::rt::Tokio;
use busline::server::routes;
use busline::service::echo;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::echoes_early;
use crate::server::soon;

/// Serves an application with `echo` below `/live`, and returns it with its address.
async fn embedded() -> (App<Tokio>, String) {
    let builder = App::builder(Tokio::current()).service("echo", echo);
    let app = builder.expect("the service is valid").build();
    let own = Router::new()
        .route("/", get(async || "own"))
        .nest("/live", routes(app.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async { axum::serve(listener, own).await });
    (app, address.to_string())
}

#[tokio::test]
async fn a_nested_service_serves_and_drains() {
    let (app, address) = embedded().await;
    let stream = soon(TcpStream::connect(&address))
        .await
        .expect("it listens");
    let url = format!("ws://{address}/live/ws/echo");
    let (mut socket, _) = soon(client_async(url, stream)).await.expect("it upgrades");
    soon(socket.send(Message::text("hello")))
        .await
        .expect("it reads");
    let echoed = soon(socket.next())
        .await
        .expect("a message")
        .expect("a message");
    assert_eq!(echoed, Message::text("hello"));
    app.drain();
    let close = soon(socket.next())
        .await
        .expect("a close")
        .expect("a close");
    assert!(close.is_close(), "{close:?}");
    assert!(soon(socket.next()).await.is_none());
    // The session ends with the client's own end of the stream.
    drop(socket);
    soon(app.drained()).await;
}

#[tokio::test]
async fn frames_sent_together_with_the_request_are_not_lost_in_a_server_of_somebody_else() {
    let (_app, address) = embedded().await;
    let stream = soon(TcpStream::connect(&address)).await;
    echoes_early(stream.expect("it listens"), "/live/ws/echo").await;
}

#[tokio::test]
async fn a_nested_index_names_the_whole_path_of_each_service() {
    let (_app, address) = embedded().await;
    let mut stream = soon(TcpStream::connect(&address))
        .await
        .expect("it listens");
    let request = "GET /live HTTP/1.1\r\nHost: bus:1\r\nConnection: close\r\n\r\n";
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer))
        .await
        .expect("text");
    assert!(
        answer.contains("websocat ws://bus:1/live/ws/echo\n"),
        "{answer}"
    );
}
