//! The waits of a route, in memory and under virtual time.

use std::future::pending;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;

use super::entrance::authorize;
use super::*;
use crate::admission::authorize::{Authorize, ConnectRequest, Denied};
use crate::client::identity::Identity;
use crate::limits::Limits;
use crate::metrics::RefuseReason;
use crate::rt::{Clock, Spawn, Tokio};
use crate::server::pipe::{head, pipes};
use crate::server::serve;
use crate::service::echo;

/// Never decides.
struct Undecided;

impl Authorize for Undecided {
    fn connect(&self, _: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_who_may_join_has_as_long_as_a_handshake() {
    let app = App::builder(Tokio::current()).authorize(Undecided);
    let app = app.service("echo", echo).expect("it is valid").build();
    let room = app.registry().room("echo", None).expect("it is there");
    // Without a deadline the route would wait forever; the test gives up after a day.
    let day = Duration::from_secs(86_400);
    let decided = tokio::time::timeout(day, authorize(&app, &room, None)).await;
    assert_eq!(decided, Ok(Err(Denied::UNDECIDED)));
    let limit = app.limits().handshake_timeout;
    assert_eq!(app.rt().now().since_start(), limit);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_decision_is_late_is_told_to_come_again() {
    let app = App::builder(Tokio::current()).authorize(Undecided);
    let app = app.service("echo", echo).expect("it is valid").build();
    let (dial, pipes) = pipes("127.0.0.1:1");
    let served = serve(pipes, app.clone(), pending());
    app.rt().spawn(Box::pin(async move { drop(served.await) }));
    let answer = dial
        .ask(
            "GET /ws/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    let refused = app.counts().sessions.refused_for(RefuseReason::Undecided);
    assert_eq!(refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_never_closes_holds_a_place_for_handshakes_and_not_forever() {
    let limits = Limits {
        handshakes: NonZeroUsize::MIN,
        ..Limits::default()
    };
    let app = App::builder(Tokio::current()).limits(limits);
    let app = app.service("echo", echo).expect("it is valid").build();
    let (dial, pipes) = pipes("127.0.0.1:1");
    let served = serve(pipes, app.clone(), pending());
    app.rt().spawn(Box::pin(async move { drop(served.await) }));
    let mut silent = dial.connect(1 << 16);
    let request = "GET /ws/none HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: busline.v1.json\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let sent = silent.write_all(request.as_bytes()).await;
    sent.expect("the server reads");
    let head = head(&mut silent).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let next = dial.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(next.await.ends_with("ok\n"));
    let waited = app.rt().now().since_start();
    assert_eq!(waited, app.limits().close_timeout);
}
