//! Replies to requests of a client, each held until the client has the messages that it speaks of.

use std::collections::VecDeque;

use super::outbox::Outbox;
use crate::bus::Subscription;
use crate::wire::Frame;

/// The most replies that wait; the client is not read while there are so many.
const WAITING_MAX: usize = 16;

/// Replies that wait for earlier messages to be in the outbox; holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Replies(Option<Box<Waiting>>);

/// Replies in the order of their requests; apart, so that a session without any holds a pointer.
#[derive(Debug, Default)]
struct Waiting(VecDeque<Reply>);

#[derive(Debug)]
struct Reply {
    /// The place in the topic to all clients that the client must have reached.
    after: u64,
    frame: Frame,
}

impl Replies {
    /// Adds a reply that follows the messages before this place.
    pub(super) fn push(&mut self, after: u64, frame: Frame) {
        let waiting = self.0.get_or_insert_default();
        waiting.0.push_back(Reply { after, frame });
    }

    /// Whether no reply waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether no further request is to be read.
    pub(super) fn is_full(&self) -> bool {
        let waiting = self.0.as_ref();
        waiting.is_some_and(|waiting| waiting.0.len() >= WAITING_MAX)
    }

    /// Moves the replies that are due into the outbox.
    pub(super) fn pull(&mut self, broadcast: &Subscription, outbox: &mut Outbox) {
        let Some(Waiting(replies)) = self.0.as_deref_mut() else {
            return;
        };
        let reached = broadcast.next_offset();
        let is_due = |reply: &mut Reply| !broadcast.catches_up() && reply.after <= reached;
        while let Some(reply) = replies.pop_front_if(is_due) {
            outbox.push_notice(&reply.frame);
        }
        if replies.is_empty() {
            self.0 = None;
        }
    }
}
