//! Replies to requests of a client, each held until the client has the messages that it speaks of.

use std::collections::VecDeque;

use super::outbox::Outbox;
use crate::bus::Subscription;
use crate::wire::Frame;

/// The most replies that wait; the client is not read while there are so many.
const WAITING_MAX: usize = 16;

/// The bytes of waiting replies at which the client is not read; a single reply may have more.
const BYTES_MAX: usize = 16 * 1024;

/// Replies in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct Replies {
    replies: VecDeque<Reply>,
    /// The bytes of all frames.
    bytes: usize,
    /// The number of the request to publish whose message the service does not have yet.
    publishing: Option<u64>,
}

#[derive(Debug)]
struct Reply {
    /// The place in the topic to all clients that the client must have reached.
    after: u64,
    frame: Frame,
}

impl Replies {
    /// Adds a reply that follows the messages before this place.
    pub(super) fn push(&mut self, after: u64, frame: Frame) {
        self.bytes += frame.as_bytes().len();
        self.replies.push_back(Reply { after, frame });
    }

    /// Notes the request to publish whose message is handed to the service next; `None` for a
    /// request without a reply.
    pub(super) fn publishes(&mut self, id: Option<u64>) {
        self.publishing = id;
    }

    /// Returns the noted request, once its message is handed over.
    pub(super) fn handed_over(&mut self) -> Option<u64> {
        self.publishing.take()
    }

    /// Whether no further request is to be read.
    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= WAITING_MAX || self.bytes >= BYTES_MAX
    }

    /// Whether a reply waits.
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// The bytes of the waiting replies.
    pub(super) fn held(&self) -> usize {
        self.bytes
    }

    /// Moves the replies that are due into the outbox, as long as that has less than `most` bytes.
    pub(super) fn pull(&mut self, broadcast: &Subscription, outbox: &mut Outbox, most: usize) {
        let reached = broadcast.next_offset();
        let is_due = |reply: &mut Reply| !broadcast.catches_up() && reply.after <= reached;
        while outbox.len() < most
            && let Some(reply) = self.replies.pop_front_if(is_due)
        {
            self.bytes -= reply.frame.as_bytes().len();
            outbox.push_notice(&reply.frame);
        }
    }
}
