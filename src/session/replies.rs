//! Replies to requests of a client, each held until the client has the messages that it speaks of.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures::FutureExt;

use super::answer;
use super::outbox::Outbox;
use crate::bus::{Answer, Answered, RequestError, Subscription, outcome};
use crate::metrics::Metrics;
use crate::rt::Instant;
use crate::wire::Frame;

/// The most replies that wait; the client is not read while there are so many.
const WAITING_MAX: usize = 16;

/// The bytes of waiting replies at which the client is not read; a single reply may have more.
const BYTES_MAX: usize = 16 * 1024;

/// Replies in the order in which they were given, and requests that their service has yet to
/// answer.
#[derive(Debug, Default)]
pub(super) struct Replies {
    replies: VecDeque<Reply>,
    /// The bytes of all frames.
    bytes: usize,
    /// The number of the request to publish whose message the service does not have yet.
    publishing: Option<u64>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Reply {
    /// The messages that the client must have first.
    told: Told,
    frame: Frame,
}

/// A request to the service that waits for its answer.
#[derive(Debug)]
struct Asked {
    id: u64,
    answer: Answer,
    until: Instant,
}

/// The messages that were said to a client so far, as the offsets behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    to_all: u64,
    to_one: u64,
}

impl Told {
    /// The messages before these offsets of the topics to all clients and to the client alone.
    pub(super) fn to(to_all: u64, to_one: u64) -> Self {
        Self { to_all, to_one }
    }
}

impl Replies {
    /// Adds a reply that follows these messages.
    pub(super) fn push(&mut self, told: Told, frame: Frame) {
        self.bytes += frame.as_bytes().len();
        self.replies.push_back(Reply { told, frame });
    }

    /// Adds a request whose answer is awaited until a deadline.
    pub(super) fn ask(&mut self, id: u64, answer: Answer, until: Instant) {
        self.asked.push(Asked { id, answer, until });
    }

    /// The number of requests that wait for an answer.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// The next time at which a request has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.iter().map(|asked| asked.until).min()
    }

    /// Takes out the answers that have come, each with the number of its request; the task is woken
    /// for the others.
    ///
    /// [`Told`] is to be looked at after this call: the service may run on another thread, and has
    /// said by then all that it said before these answers.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>) -> Vec<(u64, Answered)> {
        let mut answered = Vec::new();
        self.asked
            .retain_mut(|asked| match asked.answer.poll_unpin(cx) {
                Poll::Ready(answer) => {
                    answered.push((asked.id, answer));
                    false
                }
                Poll::Pending => true,
            });
        answered
    }

    /// Tells the client of the requests that have waited long enough.
    pub(super) fn expire(&mut self, now: Instant, told: Told, metrics: &Metrics) {
        let late = self.asked.extract_if(.., |asked| asked.until <= now);
        for id in late.map(|asked| asked.id).collect::<Vec<_>>() {
            self.answer(id, &Err(RequestError::Late), told, metrics);
        }
    }

    /// Adds the reply with an answer, or with the reason why there is none.
    pub(super) fn answer(&mut self, id: u64, answered: &Answered, told: Told, metrics: &Metrics) {
        metrics.requests.add(outcome(answered));
        self.push(told, answer::answered(id, answered));
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
    pub(super) fn pull(
        &mut self,
        broadcast: &Subscription,
        direct: &Subscription,
        outbox: &mut Outbox,
        most: usize,
    ) {
        let (to_all, to_one) = (broadcast.next_offset(), direct.next_offset());
        let is_due = |reply: &mut Reply| {
            !broadcast.catches_up() && reply.told.to_all <= to_all && reply.told.to_one <= to_one
        };
        while outbox.len() < most
            && let Some(reply) = self.replies.pop_front_if(is_due)
        {
            self.bytes -= reply.frame.as_bytes().len();
            outbox.push_notice(&reply.frame);
        }
    }
}
