//! A cursor that several caught-up subscribers share, so that one task reads for all of them.

use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::burst::{Burst, BurstFilter};
use super::state::{Read, TopicState};
use super::subscription::Subscription;
use crate::sync::{Arc, WaiterSlot};

/// The common position of several subscribers to one topic.
#[derive(Debug)]
pub(crate) struct SharedCursor {
    state: Arc<TopicState>,
    /// `None` only while the cursor is being dropped.
    waiter: Option<WaiterSlot>,
    /// The offset of the next message for all members.
    at: u64,
    members: usize,
}

impl SharedCursor {
    /// Makes a cursor without members, at the position of this subscription.
    pub(crate) fn beside(subscription: &Subscription) -> Self {
        let state = Arc::clone(subscription.state());
        let waiter = Some(state.lock().subscribers.enter());
        Self {
            state,
            waiter,
            at: subscription.next_offset(),
            members: 0,
        }
    }

    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Adds a subscription as a member if it stands where the cursor does, and removes its waker;
    /// returns whether it did.
    ///
    /// The subscription must stand at the cursor even if the cursor has no members: the cursor's
    /// task is woken only for messages after the cursor.
    ///
    /// Until it [leaves](Self::leave), the subscription must be neither polled nor dropped.
    #[must_use]
    pub(crate) fn join(&mut self, subscription: &mut Subscription) -> bool {
        let is_here = Arc::ptr_eq(subscription.state(), &self.state);
        let is_at = subscription.next_offset() == self.at && !subscription.catches_up();
        if !is_here || !is_at {
            return false;
        }
        self.members += 1;
        subscription.unpark();
        true
    }

    /// Removes a member; the subscription continues at the position of the cursor.
    pub(crate) fn leave(&mut self, subscription: &mut Subscription) {
        self.members -= 1;
        subscription.seek(self.at);
    }

    /// Polls for all unread messages as one burst for every member; returns `None` if each member
    /// is to read for itself.
    ///
    /// The task is parked unless the result is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        filter: BurstFilter,
    ) -> Poll<Option<StdArc<Burst>>> {
        let waiter = self.waiter.as_ref().expect("only drop takes the place");
        let (at, members) = (&mut self.at, self.members);
        let read = self.state.read(waiter, cx, None, |source| {
            let log = &mut *source.log;
            if *at == log.tail() {
                return Read::None;
            }
            match log.burst(at, members, filter) {
                Some(burst) => Read::All(Some(burst)),
                None => Read::Part(None),
            }
        });
        read.into_poll()
    }
}

impl Drop for SharedCursor {
    fn drop(&mut self) {
        debug_assert_eq!(self.members, 0, "each member leaves");
        if let Some(waiter) = self.waiter.take() {
            let waker = self.state.lock().subscribers.leave(waiter);
            drop(waker);
        }
    }
}
