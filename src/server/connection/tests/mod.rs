//! Slow connections, in memory and under virtual time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::app::App;
use crate::rt::{Clock, Spawn, Tokio};
use crate::server::pipe::{Dial, pipes};
use crate::server::serve_admin;

mod kept;

fn operators(app: &App<Tokio>) -> Dial {
    let (dial, pipes) = pipes("127.0.0.1:1");
    let served = serve_admin(pipes, app.clone());
    app.rt()
        .spawn(Box::pin(async move { match served.await {} }));
    dial
}

/// How long the server keeps a connection after this request, if the client reads nothing.
async fn kept(app: &App<Tokio>, mut stream: DuplexStream, request: &str) -> Duration {
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the server reads");
    let began = app.rt().now();
    // A write fails once the other end is gone.
    while stream.write_all(b"\r").await.is_ok() {
        let second = app.rt().now() + Duration::from_secs(1);
        app.rt().sleep_until(second).await;
    }
    app.rt().now().saturating_since(began)
}

#[tokio::test(start_paused = true)]
async fn a_finite_answer_that_is_not_taken_ends_after_twice_the_time_for_a_handshake() {
    let app = App::builder(Tokio::current()).build();
    let limit = app.limits().handshake_timeout * 2;
    let stream = operators(&app).connect(512);
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let kept = kept(&app, stream, request).await;
    let second = Duration::from_secs(1);
    assert!((limit..=limit + second).contains(&kept), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_finished_ends_after_the_time_for_a_handshake() {
    let app = App::builder(Tokio::current()).build();
    let mut stream = operators(&app).connect(512);
    let sent = stream
        .write_all(b"GET /debug/tap?topic=a HTTP/1.1\r\n")
        .await;
    sent.expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it ends");
    let since = app.rt().now().since_start();
    let limit = app.limits().handshake_timeout;
    assert!((limit..limit * 2).contains(&since), "{since:?}");
}
