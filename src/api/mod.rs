//! The API: the meaning of what a backend calls, whatever the way on which the call comes.
//!
//! A [`Call`] is parsed from JSON, in the shapes of Centrifugo's server API, so that its clients
//! work unchanged; [`call`] does it, and waits for nothing but the answer of a service to an `rpc`.

mod act;
mod batch;
mod channel;
mod fault;
mod look;
#[cfg(feature = "server")]
pub mod openapi;
mod payload;
mod publish;
pub mod reply;
pub mod request;
mod rpc;
mod whole;

pub use self::fault::Fault;
pub use self::reply::{Answer, Reply};
pub use self::request::{BadCall, Call};

use crate::app::App;
use crate::caller::{Method, Outcome, Rights};
use crate::rt::Runtime;

/// Does what a caller with these rights calls.
///
/// # Cancel safety
///
/// A batch whose future is dropped during an `rpc` leaves out the commands after it.
///
/// # Errors
///
/// [`Fault`], by the numbers of Centrifugo's errors.
pub async fn call<R: Runtime>(app: &App<R>, rights: &Rights, call: &Call) -> Result<Answer, Fault> {
    let done = Caller { app, rights }.call(call).await;
    let outcome = match done {
        Ok(_) => Outcome::Ok,
        Err(_) => Outcome::Error,
    };
    app.callers().counters.command(call.method(), outcome);
    done
}

/// A caller, with the application that it calls.
struct Caller<'a, R: Runtime> {
    app: &'a App<R>,
    rights: &'a Rights,
}

impl<R: Runtime> Caller<'_, R> {
    async fn call(&self, call: &Call) -> Result<Answer, Fault> {
        if !self.rights.may_call(call.method()) {
            return Err(Fault::FORBIDDEN);
        }
        match call {
            // A batch holds calls, so that its future would hold itself.
            Call::Batch(batch) => Box::pin(self.batch(batch)).await,
            Call::Broadcast(broadcast) => self.broadcast(broadcast),
            Call::Channels(wanted) => self.channels(wanted),
            Call::Disconnect(disconnect) => self.disconnect(disconnect),
            Call::End(end) => self.end(end),
            Call::History(history) => self.history(history),
            Call::HistoryRemove(channel) => self.history_remove(channel),
            Call::Info(_) => Ok(self.info()),
            Call::Presence(channel) => self.presence(channel),
            Call::PresenceStats(channel) => self.presence_stats(channel),
            Call::Publish(publish) => self.publish(publish),
            Call::Refresh(refresh) => self.refresh(refresh),
            Call::Rpc(rpc) => self.rpc(rpc).await,
            Call::Subscribe(_) => Err(Fault::not_available(
                "a connection has one room, which its client chooses",
            )),
            Call::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe),
        }
    }

    /// Notes in the log that a caller has acted on clients or on what is kept.
    fn note(&self, method: Method, what: &str, count: usize) {
        let (key, method) = (self.rights.name(), method.name());
        tracing::info!(key, method, on = what, count, "a caller has acted");
    }
}
