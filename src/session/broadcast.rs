//! How a client receives the messages to all clients: through its own task, or from a fan-out.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::bus::{Burst, BurstFilter, ClientId, Subscription};
use crate::fan_out::{FanOuts, Membership, Sink, Subscriber};
use crate::rt::Runtime;

/// The subscription to the topic for all clients, held here or lent to a fan-out.
pub(super) struct Broadcast {
    /// `None` only while the subscription moves between the two.
    held: Option<Held>,
    /// Whether the last poll returned a burst that is shared with other clients.
    keeps_up: bool,
    /// Whether the client is in no other room over its connection.
    pub(super) is_alone: bool,
}

enum Held {
    Own(Subscription),
    Lent(Membership),
}

impl Broadcast {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            held: Some(Held::Own(subscription)),
            keeps_up: false,
            is_alone: true,
        }
    }

    /// The subscription, if the client receives through its own task.
    pub(super) fn own(&self) -> Option<&Subscription> {
        match &self.held {
            Some(Held::Own(subscription)) => Some(subscription),
            Some(Held::Lent(_)) | None => None,
        }
    }

    /// The subscription, if the client receives through its own task.
    pub(super) fn own_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.held {
            Some(Held::Own(subscription)) => Some(subscription),
            Some(Held::Lent(_)) | None => None,
        }
    }

    /// Whether a message may be pending for the client's own task.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.own().is_some_and(|own| !own.is_quiet())
    }

    /// Polls for the burst shared by all clients that keep up; `Ready` only if there is one and
    /// this client's session has to write it.
    pub(super) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        filter: BurstFilter,
    ) -> Poll<Arc<Burst>> {
        let Some(subscription) = self.own_mut().filter(|own| !own.is_quiet()) else {
            return Poll::Pending;
        };
        let burst = ready!(subscription.poll_burst(cx, filter));
        self.keeps_up = burst.is_some();
        burst.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether the client qualifies for a fan-out: it keeps up with others, is in no other room,
    /// and is not in a fan-out.
    #[inline]
    pub(super) fn may_join(&self) -> bool {
        self.keeps_up && self.is_alone && self.own().is_some()
    }

    /// Lends the subscription to a fan-out, if there is one that this client can join now.
    pub(super) fn join_fan_out<R: Runtime>(
        &mut self,
        fan_outs: &FanOuts<R>,
        sink: Arc<dyn Sink>,
        filter: BurstFilter,
        client: ClientId,
    ) {
        self.held = match self.held.take() {
            Some(Held::Own(subscription)) => {
                let subscriber = Subscriber {
                    client,
                    sink,
                    subscription,
                    filter,
                };
                Some(match fan_outs.join(subscriber) {
                    Ok(membership) => Held::Lent(membership),
                    Err(subscriber) => Held::Own(subscriber.subscription),
                })
            }
            held @ (Some(Held::Lent(_)) | None) => held,
        };
    }

    /// Takes the subscription back, to receive through the client's own task again.
    pub(super) fn take_back(&mut self) {
        self.held = match self.held.take() {
            Some(Held::Lent(membership)) => membership.leave().map(Held::Own),
            held @ (Some(Held::Own(_)) | None) => held,
        };
    }

    /// Forgets which task is parked, because another task polls from now on.
    pub(super) fn moved(&mut self) {
        if let Some(subscription) = self.own_mut() {
            subscription.moved();
        }
    }
}
