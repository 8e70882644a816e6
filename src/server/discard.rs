//! The body of a request that is refused before it is read.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use futures::future::select;

use crate::rt::Runtime;

/// Longest time that a client may take to send the rest of such a body.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the body and throws it away, so that its client gets the answer.
///
/// The connection stays open meanwhile. Closed at once it would be reset by the bytes that the
/// server has not read, and the client may then see the reset in place of the answer.
pub(super) async fn discard<R: Runtime>(body: Body, rt: R) {
    let mut pieces = body.into_data_stream();
    let rest = async { while let Some(Ok(_)) = pieces.next().await {} };
    let end = rt.sleep_until(rt.now() + PATIENCE);
    drop(select(pin!(rest), end).await);
}
