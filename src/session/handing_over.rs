//! How the messages of a client come to the service of its room.

use std::task::Context;
use std::time::Duration;

use super::connection::Connection;
use super::membership::Membership;
use super::pending_inbound::PendingInbound;
use crate::bus::{Batch, Offered};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};

/// How many of the messages at hand may be offered to the service.
enum Offers {
    All,
    /// One message, after `answers_timeout`. Answers that wait for the socket would be evicted by
    /// the answers to further messages, so messages are held back meanwhile; but the held message
    /// may be the request to stop answering, so one goes through.
    One,
    None,
}

impl<R: Runtime> Membership<R> {
    /// Hands over a batch whose first message arrived at `since`; messages that the service does
    /// not accept are kept at hand.
    pub(super) fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<R>,
        handed: PendingInbound,
        now: Instant,
    ) {
        let PendingInbound { batch, since } = handed;
        let before = batch.len();
        let held = now.saturating_since(since);
        let Some(mut left) = self.offer(cx, connection, batch, held) else {
            return;
        };
        let since = if left.len() < before { now } else { since };
        if planted::is(Bug::GatheredLost) && left.len() > 1 {
            left = left.split_front(1);
        }
        self.pending_inbound = Some(Box::new(PendingInbound { batch: left, since }));
    }

    /// Offers a batch whose first message was held for the time `held`; returns the messages that
    /// the service did not accept.
    fn offer(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<R>,
        batch: Batch,
        held: Duration,
    ) -> Option<Batch> {
        let app = &connection.app;
        let offers = self.offers(connection.limits.answers_timeout, held);
        if let Some(relay) = self.rules.relay
            && !matches!(offers, Offers::None)
        {
            let messages = batch.len();
            if self.pass_on(app, batch, relay).has_ended {
                self.not_taken(app, messages);
            }
            return None;
        }
        let publisher = &mut self.publisher;
        match offers {
            Offers::None => {
                publisher.withdraw();
                return Some(batch);
            }
            Offers::One if batch.len() > 1 => {
                let mut rest = batch.clone();
                let first = rest.split_front(1);
                return match publisher.offer(cx, first) {
                    Offered::Full(_) | Offered::NoSubscribers(_) => Some(batch),
                    Offered::Published(_) => Some(rest),
                };
            }
            Offers::One | Offers::All => {}
        }
        match publisher.offer(cx, batch) {
            Offered::Full(left) | Offered::NoSubscribers(left) => Some(left),
            Offered::Published(_) => None,
        }
    }

    /// How many messages may be offered, when the first of them was held for the time `held`, and
    /// is held no longer than `timeout` for the answers to earlier ones.
    fn offers(&self, timeout: Duration, held: Duration) -> Offers {
        if self.status.generation().is_none() {
            Offers::None
        } else if !self.egress.owes_answers() {
            Offers::All
        } else if held >= timeout && !planted::is(Bug::AnswersTimeoutIgnored) {
            Offers::One
        } else {
            Offers::None
        }
    }
}
