//! The memory that all sessions hold for clients, and the choice of sessions to close when it is
//! too much.

use std::cmp::Reverse;
use std::collections::{BTreeMap, btree_map};
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex};

/// The bytes that all sessions hold; clones share the sum.
///
/// When the sum passes the bound, the sessions with most bytes are shed until an eighth of the
/// bound is free. Shedding searches all sessions with bytes, so it should be rare.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sum of all entries that are not shed.
    total: u64,
    /// The sessions that hold bytes, by the numbers of their clients.
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// The session was told to go; its bytes are no longer part of the sum.
    shed: bool,
    waker: Waker,
}

/// The error for an account that is shed.
#[derive(Debug)]
struct Shed;

/// The part of one session, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Account {
    backlog: Backlog,
    client: u64,
    /// Whether the account has an entry.
    listed: bool,
}

impl Backlog {
    pub(crate) fn new(max: u64) -> Self {
        Self(Arc::new(Shared {
            max,
            state: Mutex::new(State::default()),
        }))
    }

    /// Makes the account of a client, which must have no other account.
    pub(crate) fn account(&self, client: u64) -> Account {
        Account {
            backlog: self.clone(),
            client,
            listed: false,
        }
    }

    /// The bytes that all sessions hold.
    pub(crate) fn total(&self) -> u64 {
        self.0.state.lock().total
    }

    /// The number of sessions that hold bytes.
    #[cfg(all(test, not(feature = "loom")))]
    pub(crate) fn holders(&self) -> usize {
        self.0.state.lock().entries.len()
    }
}

impl State {
    /// Sets the bytes of an account; returns the replaced waker, to drop after unlocking.
    fn set(&mut self, client: u64, bytes: u64, waker: &Waker) -> Result<Option<Waker>, Shed> {
        let mut entry = match self.entries.entry(client) {
            btree_map::Entry::Occupied(entry) => entry,
            btree_map::Entry::Vacant(_) if bytes == 0 => return Ok(None),
            btree_map::Entry::Vacant(place) => {
                self.total += bytes;
                place.insert(Entry {
                    bytes,
                    shed: false,
                    waker: waker.clone(),
                });
                return Ok(None);
            }
        };
        let held = entry.get_mut();
        if held.shed {
            return Err(Shed);
        }
        self.total = self.total - held.bytes + bytes;
        held.bytes = bytes;
        if bytes == 0 {
            return Ok(Some(entry.remove().waker));
        }
        let is_same = held.waker.will_wake(waker);
        Ok((!is_same).then(|| std::mem::replace(&mut held.waker, waker.clone())))
    }

    fn remove(&mut self, client: u64) -> Option<Waker> {
        let entry = self.entries.remove(&client)?;
        if !entry.shed {
            self.total -= entry.bytes;
        }
        Some(entry.waker)
    }

    fn is_shed(&self, client: u64) -> bool {
        self.entries.get(&client).is_some_and(|entry| entry.shed)
    }

    /// Marks the sessions with most bytes as shed until at most `target` bytes are left; in a tie,
    /// the oldest session first. Returns their wakers.
    fn shed(&mut self, target: u64) -> Vec<Waker> {
        let held = self.entries.iter().filter(|(_, entry)| !entry.shed);
        let mut held: Vec<_> = held
            .map(|(client, entry)| (Reverse(entry.bytes), *client))
            .collect();
        held.sort_unstable();
        let mut wakers = Vec::new();
        for (Reverse(bytes), client) in held {
            if self.total <= target {
                break;
            }
            if let Some(entry) = self.entries.get_mut(&client) {
                entry.shed = true;
                self.total -= bytes;
                wakers.push(entry.waker.clone());
            }
        }
        wakers
    }
}

impl Account {
    /// The number of the account's client.
    pub(crate) fn client(&self) -> u64 {
        self.client
    }

    /// Sets the bytes that the session holds; ready when the session must go. The task is woken
    /// when that happens later.
    #[inline]
    pub(crate) fn poll_hold(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        if bytes == 0 && !self.listed {
            return Poll::Pending;
        }
        self.tell(cx, bytes as u64)
    }

    fn tell(&mut self, cx: &mut Context<'_>, bytes: u64) -> Poll<()> {
        let mut state = self.backlog.0.state.lock();
        let Ok(replaced) = state.set(self.client, bytes, cx.waker()) else {
            return Poll::Ready(());
        };
        self.listed = bytes > 0;
        let max = self.backlog.0.max;
        let mut wakers = Vec::new();
        let mut is_shed = false;
        if state.total > max {
            wakers = state.shed(max - max / 8);
            is_shed = state.is_shed(self.client);
        }
        drop(state);
        drop(replaced);
        wakers.into_iter().for_each(Waker::wake);
        if is_shed {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.listed {
            let waker = self.backlog.0.state.lock().remove(self.client);
            drop(waker);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wakes::Wakes;

    fn hold(account: &mut Account, bytes: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        account.poll_hold(&mut cx, bytes).is_ready()
    }

    #[test]
    fn the_bound_is_held_and_one_byte_more_sheds_the_largest() {
        let backlog = Backlog::new(80);
        let mut accounts = [1, 2, 3].map(|client| backlog.account(client));
        assert!(!hold(&mut accounts[0], 30));
        assert!(!hold(&mut accounts[1], 40));
        assert!(!hold(&mut accounts[2], 10), "exactly the bound");
        assert_eq!(backlog.total(), 80);
        assert!(!hold(&mut accounts[2], 11), "the small one stays");
        assert!(hold(&mut accounts[1], 40), "the largest goes");
        assert!(!hold(&mut accounts[0], 30));
        assert_eq!(backlog.total(), 41);
        drop(accounts);
        assert_eq!((backlog.total(), backlog.holders()), (0, 0));
    }

    #[test]
    fn of_equals_the_oldest_goes_and_no_more_than_needed() {
        let backlog = Backlog::new(80);
        let mut accounts = [7, 5, 9].map(|client| backlog.account(client));
        let shed: Vec<_> = accounts
            .iter_mut()
            .map(|account| hold(account, 27))
            .collect();
        assert_eq!(shed, [false, false, false], "the third one sheds another");
        assert!(!hold(&mut accounts[0], 27));
        assert!(hold(&mut accounts[1], 27), "client 5 is the oldest");
        assert!(!hold(&mut accounts[2], 27));
    }

    #[test]
    fn of_a_session_that_has_moved_the_task_that_it_was_moved_to_is_woken() {
        for moves in [false, true] {
            let backlog = Backlog::new(80);
            let mut accounts = [1, 2].map(|client| backlog.account(client));
            let tasks = [Wakes::new(), Wakes::new()];
            let mut hold = |client: usize, task: usize, bytes| {
                let mut cx = Context::from_waker(&tasks[task].1);
                accounts[client].poll_hold(&mut cx, bytes).is_ready()
            };
            assert!(!hold(0, 0, 50));
            assert!(!hold(0, usize::from(moves), 60));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(
                !accounts[1].poll_hold(&mut cx, 30).is_ready(),
                "the other one is to go"
            );
            let woken = tasks.map(|(wakes, _)| wakes.count());
            assert_eq!(woken, if moves { [0, 1] } else { [1, 0] });
        }
    }

    #[test]
    fn who_passes_the_bound_alone_goes_itself() {
        let backlog = Backlog::new(80);
        let mut account = backlog.account(1);
        assert!(hold(&mut account, 81));
        assert!(hold(&mut account, 0), "and stays told");
        assert_eq!(backlog.total(), 0);
    }

    proptest! {
        #![proptest_config(crate::cases::cases())]

        #[test]
        fn the_sum_is_that_of_those_who_stay_and_never_above_the_bound(
            max in 1..200_u64,
            steps in prop::collection::vec((0..8_usize, 0..64_usize), 0..200),
        ) {
            let backlog = Backlog::new(max);
            let mut accounts: Vec<_> = (0..8).map(|client| backlog.account(client)).collect();
            let mut shed = [false; 8];
            for (index, bytes) in steps {
                if shed[index] {
                    // The session has ended; another client takes its index.
                    accounts[index] = backlog.account(index as u64);
                }
                shed[index] = hold(&mut accounts[index], bytes);
                let state = backlog.0.state.lock();
                let kept = state.entries.values().filter(|entry| !entry.shed);
                let sum: u64 = kept.map(|entry| entry.bytes).sum();
                prop_assert_eq!(state.total, sum);
                prop_assert!(sum <= max);
            }
            drop(accounts);
            prop_assert_eq!((backlog.total(), backlog.holders()), (0, 0));
        }
    }
}
