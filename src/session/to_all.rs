//! How a client receives the messages to all clients: through its own task, or from a fan.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::bus::{Burst, ClientId, Subscription, Terms};
use crate::fan::{Fans, Follower, Loan, Member};
use crate::rt::Runtime;

/// The subscription to the topic for all clients, held here or lent to a fan.
pub(super) struct ToAll {
    /// `None` only while the subscription moves between the two.
    held: Option<Held>,
    /// Whether the last poll returned a burst that is shared with other clients.
    keeps_up: bool,
}

enum Held {
    Alone(Subscription),
    Following(Member),
}

impl ToAll {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            held: Some(Held::Alone(subscription)),
            keeps_up: false,
        }
    }

    /// The subscription, if the client receives through its own task.
    pub(super) fn alone(&self) -> Option<&Subscription> {
        match &self.held {
            Some(Held::Alone(subscription)) => Some(subscription),
            Some(Held::Following(_)) | None => None,
        }
    }

    /// The subscription, if the client receives through its own task.
    pub(super) fn alone_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.held {
            Some(Held::Alone(subscription)) => Some(subscription),
            Some(Held::Following(_)) | None => None,
        }
    }

    /// Whether a message may be pending for the client's own task.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.alone().is_some_and(|alone| !alone.is_quiet())
    }

    /// Polls for the burst shared by all clients that keep up; `Ready` only if there is one and
    /// this client's session has to write it.
    pub(super) fn poll_burst(&mut self, cx: &mut Context<'_>, terms: Terms) -> Poll<Arc<Burst>> {
        let Some(subscription) = self.alone_mut().filter(|alone| !alone.is_quiet()) else {
            return Poll::Pending;
        };
        let burst = ready!(subscription.poll_burst(cx, terms));
        self.keeps_up = burst.is_some();
        burst.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether the client qualifies for a fan: it keeps up with others and is not in a fan.
    #[inline]
    pub(super) fn may_follow(&self) -> bool {
        self.keeps_up && self.alone().is_some()
    }

    /// Lends the subscription to a fan, if there is one that this client can join now.
    pub(super) fn follow<R: Runtime>(
        &mut self,
        fans: &Fans<R>,
        follower: Arc<dyn Follower>,
        terms: Terms,
        client: ClientId,
    ) {
        self.held = match self.held.take() {
            Some(Held::Alone(subscription)) => {
                let loan = Loan {
                    client,
                    follower,
                    subscription,
                    terms,
                };
                Some(match fans.join(loan) {
                    Ok(member) => Held::Following(member),
                    Err(loan) => Held::Alone(loan.subscription),
                })
            }
            held @ (Some(Held::Following(_)) | None) => held,
        };
    }

    /// Takes the subscription back, to receive through the client's own task again.
    pub(super) fn take_back(&mut self) {
        self.held = match self.held.take() {
            Some(Held::Following(member)) => member.leave().map(Held::Alone),
            held @ (Some(Held::Alone(_)) | None) => held,
        };
    }

    /// Forgets which task is parked, because another task polls from now on.
    pub(super) fn moved(&mut self) {
        if let Some(subscription) = self.alone_mut() {
            subscription.moved();
        }
    }
}
