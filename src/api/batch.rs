//! Several commands in one request, one after the other.

use super::reply::{Named, Replies};
use super::request::Batch;
use super::{Answer, Caller, Fault, call};
use crate::caller::{Method, Turned};
use crate::limits::BATCH_LOOKS_MAX;
use crate::planted::{self, Bug};
use crate::rt::Runtime;

impl<R: Runtime> Caller<'_, R> {
    /// Does the commands in their order; a fault of one keeps none of the others.
    pub(super) async fn batch(&self, batch: &Batch) -> Result<Answer, Fault> {
        let most = self.app.limits().api.batch;
        if batch.commands.len() > most {
            let counters = &self.app.callers().counters;
            counters.turned(Turned::BatchTooLong);
            return Err(Fault::limit("commands in a batch", most));
        }
        let mut looks = 0;
        let mut replies = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            let method = command.method();
            looks += usize::from(is_long(method));
            // The server may have stopped while a service was waited for: what is published now
            // would be in no saved history.
            let is_over = planted::is(Bug::BatchEndsAtFault) && has_fault(&replies);
            let done = if is_over || self.app.callers().has_stopped() {
                Err(Fault::STOPPED)
            } else if looks > BATCH_LOOKS_MAX && is_long(method) {
                Err(Fault::limit(
                    "readings and rpcs in a batch",
                    BATCH_LOOKS_MAX,
                ))
            } else {
                call(self.app, self.rights, command).await
            };
            replies.push(Named { method, done });
        }
        Ok(Answer::Batch(Replies { replies }))
    }
}

/// Whether one of the commands so far had a fault.
fn has_fault(replies: &[Named]) -> bool {
    replies.iter().any(|reply| reply.done.is_err())
}

/// Whether the answer to a command of this method may be long, or long awaited.
fn is_long(method: Method) -> bool {
    matches!(
        method,
        Method::Channels | Method::History | Method::Presence | Method::Rpc
    )
}
