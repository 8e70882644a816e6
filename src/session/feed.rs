//! What a client receives: the service's topic to everybody and its topic to this client.

use std::task::{Context, Poll};

use super::outbox::Outbox;
use crate::bus::{Generation, Message, Origin, Subscription};
use crate::metrics::Metrics;

/// The two subscriptions of one client.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) to_all: Subscription,
    pub(super) to_one: Subscription,
    /// The oldest generation that serves this client.
    pub(super) since: Generation,
    /// Bytes gathered for one write.
    pub(super) outbox_bytes: usize,
}

impl Feed {
    /// Moves what is due into the outbox, up to its limit, and returns how many messages were lost.
    ///
    /// The task is parked on both subscriptions, unless the outbox has something to be sent first.
    pub(super) fn pull(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let mut lost = 0;
        let mut batch = Vec::new();
        for subscription in [&mut self.to_one, &mut self.to_all] {
            // Until there is no more: what is left out fills nothing, and must not end the reading.
            while outbox.is_empty() || outbox.len() < self.outbox_bytes {
                let room = self.outbox_bytes.saturating_sub(outbox.len());
                match subscription.poll_batch(cx, room, &mut batch) {
                    Poll::Ready(lagged) => lost += lagged,
                    Poll::Pending => break,
                }
                push(&mut batch, self.since, outbox, metrics);
            }
        }
        lost
    }

    /// Whether messages to this client alone wait for its socket.
    pub(super) fn owes_answers(&self) -> bool {
        self.to_one.pending() > 0
    }
}

/// Moves the batch into the outbox, but for what an instance said that this client has not joined.
fn push(batch: &mut Vec<Message>, since: Generation, outbox: &mut Outbox, metrics: &Metrics) {
    let all = batch.len();
    batch.retain(|message| match message.origin() {
        Origin::Service(generation) => *generation >= since,
        Origin::Client(_) | Origin::Unknown => true,
    });
    metrics.stale.add((all - batch.len()) as u64);
    let bytes = batch
        .iter()
        .map(|message| message.frame().as_bytes().len())
        .sum();
    outbox.reserve(batch.len(), bytes);
    for message in batch.drain(..) {
        outbox.push(message.frame());
    }
}
