//! Discards the body of a request that is refused before its body is read.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use futures::future::select;

use crate::rt::Runtime;

/// Longest time that a client may take to send the rest of the body.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the body and discards it, so that the client receives the response.
///
/// The connection stays open meanwhile. If it were closed at once, the unread bytes would cause a
/// reset, and the client might see the reset instead of the response.
pub(super) async fn discard<R: Runtime>(body: Body, rt: R) {
    let mut pieces = body.into_data_stream();
    let rest = async { while let Some(Ok(_)) = pieces.next().await {} };
    let end = rt.sleep_until(rt.now() + PATIENCE);
    drop(select(pin!(rest), end).await);
}
