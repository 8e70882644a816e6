//! The fan-out: one task writes a service's messages to all clients that keep up, without waking
//! their sessions.
//!
//! ```text
//!   topic -> SharedCursor -> Fan -+-> link of a session that sleeps
//!                                 +-> link of a session that sleeps
//!                                 +-> link whose socket is full -> its session takes over
//! ```
//!
//! Lock order: a fan before a link, a link before a topic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use slab::Slab;

use crate::bus::{Burst, ClientId, InMemoryMessageBus, SharedCursor, Subscription, Terms, Topic};
use crate::metrics::Metrics;
use crate::rt::{Instant, Runtime, WorkerId};
use crate::shards::Shards;
use crate::sync::Mutex;

/// The most followers of a fan: after so many writes, other tasks get their turn.
const FOLLOWERS_MAX: usize = 256;

/// The number of writes that share a reading of the clock.
const WRITES_PER_TIME: usize = 16;

/// The socket of a session, as a fan writes to it.
pub(crate) trait Follower: Send + Sync {
    /// Writes the burst after the bytes that are being written. If the socket does not take all of
    /// it, the session writes the rest.
    fn give(&self, burst: &Arc<Burst>, metrics: &Metrics, now: Instant) -> Given;

    /// Adds a burst to the bytes to be written, after a panic in [`give`](Self::give).
    fn keep(&self, burst: &Arc<Burst>);

    /// Notes that the session takes over from the fan.
    fn release(&self);

    /// Wakes the session.
    fn ring(&self);
}

/// The result of a write to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The socket has not taken the whole burst.
    Behind,
    /// The socket has taken the whole burst at once; the caller is to count the write.
    Passed,
    /// The socket has taken the whole burst, after earlier bytes; the write is counted.
    Whole,
}

/// Counts this many writes of a burst that ended at `now`.
pub(crate) fn count(burst: &Burst, writes: u64, metrics: &Metrics, now: Instant) {
    let (messages, bytes) = (burst.messages() as u64, burst.bytes().len() as u64);
    metrics.messages_out.add(messages * writes);
    metrics.bytes_out.add(bytes * writes);
    burst.observe(&metrics.written_after, writes, now);
}

/// The sessions of one worker that follow one topic.
pub(crate) struct Fan {
    state: Mutex<State>,
    task: AbortHandle,
    /// The list that has this fan, and its key there.
    listed: (Arc<Mutex<Map>>, Key),
}

struct State {
    cursor: SharedCursor,
    followers: Slab<Place>,
    terms: Terms,
    /// The version of the bus's taps at which no follower was tapped.
    taps_version: u64,
    /// Whether the task has ended.
    is_over: bool,
}

/// The slot of a follower; kept until its session takes back its subscription.
struct Place {
    client: ClientId,
    subscription: Subscription,
    /// `None` once the session has taken over.
    follower: Option<Arc<dyn Follower>>,
}

/// A session's membership in a fan; dropping it unsubscribes.
pub(crate) struct Member {
    fan: Arc<Fan>,
    /// `None` only while the member is being dropped.
    key: Option<usize>,
}

/// The result of an attempt to join a fan.
enum Joined {
    /// The followers are at another offset at the moment.
    Elsewhere(Loan),
    Member(Member),
    /// The fan is full, has ended, or has followers with another limit of bytes.
    No(Loan),
}

/// The values that a session lends to a fan.
pub(crate) struct Loan {
    pub(crate) client: ClientId,
    pub(crate) follower: Arc<dyn Follower>,
    pub(crate) subscription: Subscription,
    pub(crate) terms: Terms,
}

/// The fans of an application.
pub(crate) struct Fans<R> {
    stage: Stage<R>,
    map: Arc<Mutex<Map>>,
}

/// The fans of each topic on each worker.
type Map = BTreeMap<Key, Vec<Weak<Fan>>>;

type Key = (WorkerId, Topic);

/// The values that all fans of an application use.
#[derive(Clone)]
struct Stage<R> {
    rt: R,
    bus: InMemoryMessageBus,
    metrics: Arc<Shards<Metrics>>,
}

impl<R: Runtime> Fans<R> {
    pub(crate) fn new(rt: R, bus: InMemoryMessageBus, metrics: Arc<Shards<Metrics>>) -> Self {
        Self {
            stage: Stage { rt, bus, metrics },
            map: Arc::new(Mutex::new(BTreeMap::new())),
        }
    }

    /// Joins a fan of the topic, which is made if necessary. Returns the loan if the session is not
    /// bound to a worker, or if the followers are at another offset at the moment.
    pub(crate) fn join(&self, mut loan: Loan) -> Result<Member, Loan> {
        let Some(worker) = self.stage.rt.worker() else {
            return Err(loan);
        };
        let key = (worker, loan.subscription.topic().clone());
        // The newest fan first, as the older ones are mostly full.
        let mut before = usize::MAX;
        while let Some((index, fan)) = self.newest(&key, before) {
            match fan.join(loan) {
                Joined::Elsewhere(loan) => return Err(loan),
                Joined::Member(member) => return Ok(member),
                Joined::No(back) => loan = back,
            }
            before = index;
        }
        let listed = (Arc::clone(&self.map), key.clone());
        let (fan, task) = Fan::new(&self.stage, &loan, listed);
        let weak = Arc::downgrade(&fan);
        self.map.lock().entry(key).or_default().push(weak);
        self.stage.rt.spawn(task);
        match fan.join(loan) {
            Joined::Member(member) => Ok(member),
            Joined::Elsewhere(loan) | Joined::No(loan) => Err(loan),
        }
    }
}

impl<R> Fans<R> {
    /// The newest fan before index `before` of the list, and its index.
    ///
    /// Returns a single fan, which is used without the lock: dropping the last handle of a fan
    /// takes the lock to remove it from the list.
    fn newest(&self, key: &Key, before: usize) -> Option<(usize, Arc<Fan>)> {
        let map = self.map.lock();
        let fans = map.get(key)?;
        let earlier = &fans[..before.min(fans.len())];
        let found = |(index, fan): (usize, &Weak<Fan>)| Some((index, fan.upgrade()?));
        earlier.iter().enumerate().rev().find_map(found)
    }
}

impl Fan {
    /// Adds a follower, if it is at the offset of the others.
    fn join(self: &Arc<Self>, mut loan: Loan) -> Joined {
        let mut state = self.state.lock();
        let is_full = state.cursor.members() >= FOLLOWERS_MAX;
        let is_alike = state.terms.bytes_max == loan.terms.bytes_max;
        if state.is_over || is_full || !is_alike {
            return Joined::No(loan);
        }
        if !state.cursor.join(&mut loan.subscription) {
            return Joined::Elsewhere(loan);
        }
        state.terms.since = state.terms.since.max(loan.terms.since);
        let key = Some(state.followers.insert(Place {
            client: loan.client,
            subscription: loan.subscription,
            follower: Some(loan.follower),
        }));
        let fan = Arc::clone(self);
        Joined::Member(Member { fan, key })
    }

    fn new<R: Runtime>(
        stage: &Stage<R>,
        loan: &Loan,
        listed: (Arc<Mutex<Map>>, Key),
    ) -> (Arc<Self>, BoxFuture<'static, ()>) {
        let (task, registration) = AbortHandle::new_pair();
        let state = State {
            cursor: SharedCursor::beside(&loan.subscription),
            followers: Slab::new(),
            terms: loan.terms,
            // No bus has this version: the first flush checks all followers.
            taps_version: u64::MAX,
            is_over: false,
        };
        let fan = Arc::new(Self {
            state: Mutex::new(state),
            task,
            listed,
        });
        let task = Task {
            stage: stage.clone(),
            fan: Arc::downgrade(&fan),
        };
        (fan, Abortable::new(task, registration).map(drop).boxed())
    }

    /// Writes new messages to all followers; ready once the fan has ended.
    fn poll<R: Runtime>(&self, cx: &mut Context<'_>, stage: &Stage<R>) -> Poll<()> {
        let mut state = self.state.lock();
        let released = state.flush(cx, stage);
        let is_over = state.is_over;
        drop(state);
        // With no lock held, as each call wakes a session.
        for follower in released {
            follower.ring();
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Returns every follower to its session, and accepts no more.
    fn end(&self) {
        let released = self.state.lock().end();
        for follower in released {
            follower.ring();
        }
    }

    /// Removes a follower's slot, and returns its subscription.
    fn leave(&self, key: usize) -> Subscription {
        let mut state = self.state.lock();
        let mut place = state.followers.remove(key);
        if place.follower.is_some() {
            state.cursor.leave(&mut place.subscription);
        }
        drop(state);
        place.subscription
    }
}

impl Drop for Fan {
    fn drop(&mut self) {
        self.task.abort();
        let (map, key) = &self.listed;
        let mut map = map.lock();
        if let Some(fans) = map.get_mut(key) {
            fans.retain(|fan| fan.strong_count() > 0);
            if fans.is_empty() {
                map.remove(key);
            }
        }
    }
}

impl State {
    /// Writes new messages to all followers, and returns the followers whose sessions take over.
    fn flush<R: Runtime>(
        &mut self,
        cx: &mut Context<'_>,
        stage: &Stage<R>,
    ) -> Vec<Arc<dyn Follower>> {
        if self.is_over {
            return self.end();
        }
        let mut released = self.release_tapped(&stage.bus);
        released.extend(match self.cursor.poll_burst(cx, self.terms) {
            Poll::Pending => Vec::new(),
            Poll::Ready(Some(burst)) => self.give(&burst, stage),
            Poll::Ready(None) => self.end(),
        });
        released
    }

    /// Releases the tapped followers: only their sessions report events for each message.
    fn release_tapped(&mut self, bus: &InMemoryMessageBus) -> Vec<Arc<dyn Follower>> {
        let version = bus.taps_version();
        if std::mem::replace(&mut self.taps_version, version) == version {
            return Vec::new();
        }
        let is_tapped = |(_, place): &(usize, &Place)| bus.is_client_tapped(place.client);
        let tapped = self.followers.iter().filter(is_tapped);
        let keys: Vec<_> = tapped.map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    fn give<R: Runtime>(&mut self, burst: &Arc<Burst>, stage: &Stage<R>) -> Vec<Arc<dyn Follower>> {
        let metrics = stage.metrics.here();
        let mut now = stage.rt.now();
        let mut behind = Vec::new();
        let mut passed = 0;
        let mut left = WRITES_PER_TIME;
        for (key, place) in &self.followers {
            if left == 0 {
                count(burst, std::mem::take(&mut passed), metrics, now);
                now = stage.rt.now();
                left = WRITES_PER_TIME;
            }
            left -= 1;
            let Some(follower) = &place.follower else {
                continue;
            };
            // A panic in one socket must not keep the burst from the other followers.
            let give = || follower.give(burst, metrics, now);
            match catch_unwind(AssertUnwindSafe(give)) {
                Ok(Given::Whole) => {}
                Ok(Given::Passed) => passed += 1,
                Ok(Given::Behind) => behind.push(key),
                Err(_panic) => {
                    follower.keep(burst);
                    behind.push(key);
                }
            }
        }
        count(burst, passed, metrics, now);
        behind
            .into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    /// Releases all followers, and ends the fan.
    fn end(&mut self) -> Vec<Arc<dyn Follower>> {
        self.is_over = true;
        let keys: Vec<_> = self.followers.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    /// Hands a follower back to its session, which takes back its subscription at its next poll.
    fn release(&mut self, key: usize) -> Option<Arc<dyn Follower>> {
        let place = self.followers.get_mut(key)?;
        let follower = place.follower.take()?;
        self.cursor.leave(&mut place.subscription);
        follower.release();
        Some(follower)
    }
}

impl Member {
    /// Leaves the fan, and returns the subscription.
    pub(crate) fn leave(mut self) -> Option<Subscription> {
        self.take()
    }

    fn take(&mut self) -> Option<Subscription> {
        let key = self.key.take()?;
        Some(self.fan.leave(key))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The task that writes to the followers of a fan.
struct Task<R: Runtime> {
    stage: Stage<R>,
    fan: Weak<Fan>,
}

impl<R: Runtime> Future for Task<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let fan = self.fan.upgrade();
        fan.map_or(Poll::Ready(()), |fan| fan.poll(cx, &self.stage))
    }
}

impl<R: Runtime> Drop for Task<R> {
    fn drop(&mut self) {
        // A runtime that drops the task ends the fan, as no other task would serve the followers.
        if let Some(fan) = self.fan.upgrade() {
            fan.end();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
