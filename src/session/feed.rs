//! What a client receives: the service's topic to everybody and its topic to this client.

use std::task::{Context, Poll};

use super::encoding::Encoding;
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
    pub(super) encoding: Encoding,
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
                metrics.stale.add(leave_out_stale(&mut batch, self.since));
                push(&mut batch, &self.encoding, outbox);
            }
        }
        lost
    }

    /// Whether messages to this client alone wait for its socket.
    pub(super) fn owes_answers(&self) -> bool {
        self.to_one.pending() > 0
    }
}

/// Leaves out what an instance said that this client has not joined, and returns how much that is.
fn leave_out_stale(batch: &mut Vec<Message>, since: Generation) -> u64 {
    let all = batch.len();
    batch.retain(|message| match message.origin() {
        Origin::Service(generation) => generation >= since,
        Origin::Client(_) | Origin::Unknown => true,
    });
    (all - batch.len()) as u64
}

/// Moves the batch into the outbox.
fn push(batch: &mut Vec<Message>, encoding: &Encoding, outbox: &mut Outbox) {
    let bytes = batch
        .iter()
        .map(|message| encoding.encode(message).len())
        .sum();
    outbox.reserve(batch.len(), bytes);
    for message in batch.drain(..) {
        outbox.push(encoding.encode(&message));
    }
}
