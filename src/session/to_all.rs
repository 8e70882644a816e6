//! How a client receives what everybody gets: by itself, or from a fan.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::bus::{Burst, ClientId, Subscription, Terms};
use crate::fan::{Fans, Follower, Loan, Member};
use crate::rt::Runtime;

/// The subscription to the topic of everybody, wherever it is.
pub(super) struct ToAll {
    /// `None` only while it passes from one to the other.
    held: Option<Held>,
    /// Whether it was given the same burst as others the last time.
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

    /// The subscription of a client that receives by itself.
    pub(super) fn alone(&self) -> Option<&Subscription> {
        match &self.held {
            Some(Held::Alone(subscription)) => Some(subscription),
            Some(Held::Following(_)) | None => None,
        }
    }

    /// The subscription of a client that receives by itself.
    pub(super) fn alone_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.held {
            Some(Held::Alone(subscription)) => Some(subscription),
            Some(Held::Following(_)) | None => None,
        }
    }

    /// Whether there may be something that a client receives by itself.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.alone().is_some_and(|alone| !alone.is_quiet())
    }

    /// Polls for what everybody gets who keeps up; `Ready` only if there is some, and it is for
    /// this client's session to write.
    pub(super) fn poll_burst(&mut self, cx: &mut Context<'_>, terms: Terms) -> Poll<Arc<Burst>> {
        let Some(subscription) = self.alone_mut().filter(|alone| !alone.is_quiet()) else {
            return Poll::Pending;
        };
        let burst = ready!(subscription.poll_burst(cx, terms));
        self.keeps_up = burst.is_some();
        burst.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether a fan might write what everybody gets: the client has kept up with others.
    #[inline]
    pub(super) fn may_follow(&self) -> bool {
        self.keeps_up && self.alone().is_some()
    }

    /// Lets a fan write what everybody gets, if there is one that this client can follow now.
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

    /// Receives by itself again.
    pub(super) fn take_back(&mut self) {
        self.held = match self.held.take() {
            Some(Held::Following(member)) => member.leave().map(Held::Alone),
            held @ (Some(Held::Alone(_)) | None) => held,
        };
    }

    /// From now on another task polls it.
    pub(super) fn moved(&mut self) {
        if let Some(subscription) = self.alone_mut() {
            subscription.moved();
        }
    }
}
