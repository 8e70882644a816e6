//! Subscribers of one topic that stand at one place, and move on together.

use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::burst::{Burst, Terms};
use super::cell::Cell;
use super::subscription::Subscription;
use crate::sync::{Arc, Place};

/// Several subscriptions to one topic, of which none moves while it is a member.
///
/// What they have to receive costs one step in all, however many they are.
#[derive(Debug)]
pub(crate) struct Group {
    cell: Arc<Cell>,
    /// `None` only while it is being dropped.
    place: Option<Place>,
    /// The number of the next message of all members.
    at: u64,
    members: usize,
}

impl Group {
    /// An empty one that stands at this message.
    pub(super) fn new(cell: Arc<Cell>, at: u64) -> Self {
        let place = Some(cell.lock().subscribers.enter());
        Self {
            cell,
            place,
            at,
            members: 0,
        }
    }

    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Takes in a subscription that stands where the group does; no task is woken for it any more.
    ///
    /// Also of one without members: its task is woken only for what comes after that place.
    ///
    /// Until it [parts](Self::part) it must not be polled, and not be dropped.
    #[must_use]
    pub(crate) fn join(&mut self, subscription: &mut Subscription) -> bool {
        if subscription.next_number() != self.at || !subscription.is_of(&self.cell) {
            return false;
        }
        self.members += 1;
        subscription.unpark();
        true
    }

    /// Gives a member back to itself: it stands where the group does.
    pub(crate) fn part(&mut self, subscription: &mut Subscription) {
        self.members -= 1;
        subscription.stand_at(self.at);
    }

    /// Polls for all that is due as one burst, for each member; `None` if each is to receive it for
    /// itself.
    ///
    /// The task is parked, unless that is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        terms: Terms,
    ) -> Poll<Option<StdArc<Burst>>> {
        let place = self.place.as_ref().expect("only drop takes the place");
        let (cell, members) = (&self.cell, self.members);
        let read = cell.read(place, cx, |log| log.burst(&mut self.at, members, terms));
        read.into_poll()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        debug_assert_eq!(self.members, 0, "each member parts");
        if let Some(place) = self.place.take() {
            let waker = self.cell.lock().subscribers.leave(place);
            drop(waker);
        }
    }
}
