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

    /// Ends an instance; the returned task is to be dropped with no lock held.
    #[must_use = "a waker is foreign code, also when it is dropped"]
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut inner = self.0.lock();
        inner.roster.end();
        inner.waker.take()
    }

    /// Adds a client, with the position of the inbox before its first message, or `None` if the
    /// present instance stops; the returned task is to be woken with no lock held.
    #[must_use = "the instance waits for the wake"]
    pub(crate) fn join(&self, client: Client, at: Option<u64>) -> Option<Waker> {
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

#[cfg(all(test, feature = "loom"))]
mod models {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::bus::Topic;
    use crate::client::identity::Identity;
    use crate::metrics::CloseReason;
    use crate::sync::{Arc, model};

    fn client(id: u64) -> Client {
        let topic: Topic = "t".parse().expect("a valid name");
        Client::new(ClientId::new(id), Identity::anonymous(), topic)
    }

    /// A client that comes and one that goes against an instance that waits for both; preemptions
    /// unbounded.
    ///
    /// Catches: a change that wakes no waiting instance, and a waker that is parked under another
    /// lock than the look at the roster.
    #[test]
    fn an_instance_that_waits_is_told_of_each_change() {
        model(None, || {
            let members = Arc::new(Members::default());
            assert!(
                members.join(client(1), Some(0)).is_none(),
                "no instance waits"
            );
            members.begin();
            let comes = thread::spawn({
                let members = Arc::clone(&members);
                move || {
                    members
                        .join(client(2), Some(0))
                        .into_iter()
                        .for_each(Waker::wake);
                }
            });
            let goes = thread::spawn({
                let members = Arc::clone(&members);
                move || {
                    let (behind, reason) = (None, CloseReason::Lost);
                    members.leave(ClientId::new(1), Leaving { behind, reason });
                }
            });
            for _ in 0..2 {
                let told = block_on(poll_fn(|cx| members.poll_next(cx, 0)));
                match told {
                    Told::Joined(client) => assert_eq!(client.id(), ClientId::new(2)),
                    Told::Left(client, _) => assert_eq!(client.id(), ClientId::new(1)),
                }
            }
            for change in [comes, goes] {
                change.join().expect("no panic");
            }
            assert_eq!(members.clients(), [client(2)]);
        });
    }
}
