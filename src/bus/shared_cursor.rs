//! One cursor for several subscribers that keep up, so that one task reads for all of them.

use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::burst::{Burst, Terms};
use super::state::{Read, TopicState};
use super::subscription::Subscription;
use crate::sync::{Arc, Place};

/// The common position of several subscribers to one topic.
#[derive(Debug)]
pub(crate) struct SharedCursor {
    state: Arc<TopicState>,
    /// `None` only while it is being dropped.
    place: Option<Place>,
    /// The offset of the next message of all members.
    at: u64,
    members: usize,
}

impl SharedCursor {
    /// A cursor without members that stands where this subscription does.
    pub(crate) fn beside(subscription: &Subscription) -> Self {
        let state = Arc::clone(subscription.state());
        let place = Some(state.lock().subscribers.enter());
        Self {
            state,
            place,
            at: subscription.next_offset(),
            members: 0,
        }
    }

    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Takes in a subscription that stands where the cursor does; no task is woken for it any more.
    ///
    /// A cursor without members takes one in as well: the cursor's task is woken only for what
    /// comes after that position.
    ///
    /// Until it [leaves](Self::leave) the subscription must not be polled, and not be dropped.
    #[must_use]
    pub(crate) fn join(&mut self, subscription: &mut Subscription) -> bool {
        let is_here = Arc::ptr_eq(subscription.state(), &self.state);
        if !is_here || subscription.next_offset() != self.at {
            return false;
        }
        self.members += 1;
        subscription.unpark();
        true
    }

    /// Gives a member back to itself: it stands where the cursor does.
    pub(crate) fn leave(&mut self, subscription: &mut Subscription) {
        self.members -= 1;
        subscription.seek(self.at);
    }

    /// Polls for all that is due as one burst, for each member; `None` if each is to read for
    /// itself.
    ///
    /// The task is parked, unless that is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        terms: Terms,
    ) -> Poll<Option<StdArc<Burst>>> {
        let place = self.place.as_ref().expect("only drop takes the place");
        let (at, members) = (&mut self.at, self.members);
        let read = self.state.read(place, cx, |log| {
            if *at == log.tail() {
                return Read::None;
            }
            match log.burst(at, members, terms) {
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
        if let Some(place) = self.place.take() {
            let waker = self.state.lock().subscribers.leave(place);
            drop(waker);
        }
    }
}
