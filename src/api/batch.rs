//! Several commands in one request, one after the other.

use super::reply::{Named, Replies};
use super::request::Batch;
use super::{Answer, Caller, Fault, call};
use crate::caller::Turned;
use crate::rt::Runtime;

impl<R: Runtime> Caller<'_, R> {
    /// Does the commands in their order; a fault of one keeps none of the others.
    pub(super) fn batch(&self, batch: &Batch) -> Result<Answer, Fault> {
        let most = self.app.limits().api.batch;
        if batch.commands.len() > most {
            let counters = &self.app.callers().counters;
            counters.turned(Turned::BatchTooLong);
            return Err(Fault::limit("commands in a batch", most));
        }
        let commands = batch.commands.iter();
        let replies = commands.map(|command| Named {
            method: command.method(),
            done: call(self.app, self.rights, command),
        });
        let replies = replies.collect();
        Ok(Answer::Batch(Replies { replies }))
    }
}
