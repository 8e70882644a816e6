//! The replies to requests of the client, among its messages.

use std::task::Context;

use super::Egress;
use crate::bus::Subscription;
use crate::metrics::Metrics;
use crate::session::outbox::Outbox;
use crate::session::replies::Told;

impl Egress {
    /// Moves the replies that are due into the outbox, up to its limit; the task is woken by the
    /// answers of the service that are yet to come.
    pub(super) fn gather_replies(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) {
        let Some(replies) = self.encoder.replies() else {
            return;
        };
        let answered = replies.poll_answers(cx);
        let (most, told) = (self.most(), self.told());
        if let Some(replies) = self.encoder.replies()
            && let Some(broadcast) = self.broadcast.own()
        {
            for (id, answer) in answered {
                replies.answer(id, &answer, told, metrics);
            }
            replies.pull(broadcast, &self.direct, outbox, most);
        }
    }

    /// The messages that were said to the client by now.
    pub(in crate::session) fn told(&self) -> Told {
        let to_all = self.broadcast.own().map_or(0, Subscription::tail);
        Told::to(to_all, self.direct.tail())
    }
}
