//! The roster of a room, shared by its leases and its instance.

use std::task::{Context, Poll, Waker};

use super::roster::{Leaving, Roster, Told};
use crate::bus::{Client, ClientId};
use crate::sync::Mutex;

/// A [`Roster`] behind a lock, and the instance that waits for its changes.
#[derive(Debug)]
pub(crate) struct Members(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    roster: Roster,
    waker: Option<Waker>,
}

impl Default for Members {
    fn default() -> Self {
        Self(Mutex::new(Inner::default()))
    }
}

impl Members {
    /// Begins an instance, for which every present client is there.
    pub(crate) fn begin(&self) {
        self.0.lock().roster.begin();
    }

    /// Ends an instance.
    pub(crate) fn end(&self) {
        let mut inner = self.0.lock();
        inner.roster.end();
        let waker = inner.waker.take();
        drop(inner);
        drop(waker);
    }

    /// Adds a client, with the position of the inbox before its first message; the returned task is
    /// to be woken with no lock held.
    #[must_use = "the instance waits for the wake"]
    pub(crate) fn join(&self, client: Client, at: u64) -> Option<Waker> {
        let mut inner = self.0.lock();
        inner.roster.join(client, at);
        inner.waker.take()
    }

    /// Removes a client, and wakes the instance that is to be told.
    pub(crate) fn leave(&self, id: ClientId, leaving: Leaving) {
        let mut inner = self.0.lock();
        inner.roster.leave(id, leaving);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Replaces the record of a client after it has shown a fresh token.
    pub(crate) fn renew(&self, client: &Client) {
        self.0.lock().roster.renew(client);
    }

    /// The next change that is due once the instance has received its inbox up to `received`.
    pub(crate) fn next(&self, received: u64) -> Option<Told> {
        self.0.lock().roster.next(received)
    }

    /// Polls for the next change; wakes the task at each further change.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>, received: u64) -> Poll<Told> {
        // Look and park happen under one lock: a change comes before both or wakes the task.
        let mut inner = self.0.lock();
        if let Some(told) = inner.roster.next(received) {
            return Poll::Ready(told);
        }
        let replaced = inner.waker.replace(cx.waker().clone());
        drop(inner);
        drop(replaced);
        Poll::Pending
    }

    /// The clients that are there.
    pub(crate) fn present(&self) -> Vec<Client> {
        self.0.lock().roster.present()
    }

    /// The clients that are there as far as the instance was told.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.0.lock().roster.clients()
    }
}
