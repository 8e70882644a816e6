//! The flush: what everybody gets is written to all who keep up by one task, and wakes none of
//! theirs.
//!
//! ```text
//!   topic -> Group -> Fan -+-> link of a session that sleeps
//!                          +-> link of a session that sleeps
//!                          +-> link whose socket takes no more -> its session goes on by itself
//! ```
//!
//! Locks: a fan's before a link's, and a link's before a topic's.

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
use crate::rt::{Home, Instant, Runtime};
use crate::shards::Shards;
use crate::sync::Mutex;

/// Followers of one fan at most: so many writes, and other tasks have their turn.
const FOLLOWERS_MAX: usize = 256;

/// Writes that count as of one moment.
const WRITES_PER_TIME: usize = 16;

/// A session's socket, as a fan writes to it.
pub(crate) trait Follower: Send + Sync {
    /// Writes the burst after what is being written. One that is behind is its session's matter
    /// from then on.
    fn give(&self, burst: &Arc<Burst>, metrics: &Metrics, now: Instant) -> Given;

    /// Adds a burst to what is to be written, after a panic has kept it from that.
    fn keep(&self, burst: &Arc<Burst>);

    /// Takes note that its session goes on by itself.
    fn release(&self);

    /// Wakes its session.
    fn ring(&self);
}

/// Whether a follower keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Its socket has not taken all of it.
    Behind,
    /// Its socket has taken all of it at once, which is not counted yet.
    Passed,
    /// Its socket has taken all of it, after what was there before.
    Whole,
}

/// Counts so many writes of a burst, as of that moment.
pub(crate) fn count(burst: &Burst, writes: u64, metrics: &Metrics, now: Instant) {
    let (messages, bytes) = (burst.messages() as u64, burst.bytes().len() as u64);
    metrics.messages_out.add(messages * writes);
    metrics.bytes_out.add(bytes * writes);
    burst.observe(&metrics.written_after, writes, now);
}

/// Those who follow one topic in one place.
pub(crate) struct Fan {
    state: Mutex<State>,
    task: AbortHandle,
    /// Where it is listed, and as what.
    listed: (Arc<Mutex<Map>>, Key),
}

struct State {
    cursor: SharedCursor,
    followers: Slab<Place>,
    terms: Terms,
    /// The version of the bus's taps as of which no follower is tapped.
    taps_version: u64,
    /// Whether its task has ended.
    is_over: bool,
}

/// A follower's place; it stays until its session takes back what it has lent.
struct Place {
    client: ClientId,
    subscription: Subscription,
    /// `None` once its session goes on by itself.
    follower: Option<Arc<dyn Follower>>,
}

/// A session's place in a fan; dropping it unsubscribes.
pub(crate) struct Member {
    fan: Arc<Fan>,
    /// `None` only while it is being dropped.
    key: Option<usize>,
}

/// What came of a wish to follow a fan.
enum Joined {
    /// Its followers stand elsewhere at the moment.
    Elsewhere(Loan),
    Member(Member),
    /// It takes nobody, or nobody like this.
    No(Loan),
}

/// What a session lends to a fan.
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

/// The fans of each topic at each place.
type Map = BTreeMap<Key, Vec<Weak<Fan>>>;

type Key = (Home, Topic);

/// What all fans of an application use.
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

    /// Joins a fan of this topic; gives the loan back where sessions do not follow, as they are at
    /// no one place, and where they do not at the moment.
    pub(crate) fn join(&self, mut loan: Loan) -> Result<Member, Loan> {
        let Some(home) = self.stage.rt.home() else {
            return Err(loan);
        };
        let key = (home, loan.subscription.topic().clone());
        // The newest first: those before it are mostly full.
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
    /// The newest fan that stands in the list before this place, and its own place.
    ///
    /// One at a time, and used without the lock: the last handle of a fan takes it out of the list.
    fn newest(&self, key: &Key, before: usize) -> Option<(usize, Arc<Fan>)> {
        let map = self.map.lock();
        let fans = map.get(key)?;
        let earlier = &fans[..before.min(fans.len())];
        let found = |(index, fan): (usize, &Weak<Fan>)| Some((index, fan.upgrade()?));
        earlier.iter().enumerate().rev().find_map(found)
    }
}

impl Fan {
    /// Lets it follow, if it stands where the others do.
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
            // No bus has this version: the first flush looks at all.
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

    /// Gives its followers what there is; ready when it has given all of them back.
    fn poll<R: Runtime>(&self, cx: &mut Context<'_>, stage: &Stage<R>) -> Poll<()> {
        let mut state = self.state.lock();
        let released = state.flush(cx, stage);
        let is_over = state.is_over;
        drop(state);
        // With no lock held: each wakes a session.
        for follower in released {
            follower.ring();
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Gives every follower back to its session, and takes none any more.
    fn end(&self) {
        let released = self.state.lock().end();
        for follower in released {
            follower.ring();
        }
    }

    /// Takes a follower's place away.
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
    /// Writes what there is to all followers, and returns those that go on by themselves.
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

    /// Releases the followers that are tapped: only their sessions can tell what becomes of each
    /// message.
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
            // A socket that panics is no matter of the others, who are still to be given theirs.
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

    /// Gives all of them back, and ends.
    fn end(&mut self) -> Vec<Arc<dyn Follower>> {
        self.is_over = true;
        let keys: Vec<_> = self.followers.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    /// Gives a follower back to its session, which takes back what it has lent when it is polled.
    fn release(&mut self, key: usize) -> Option<Arc<dyn Follower>> {
        let place = self.followers.get_mut(key)?;
        let follower = place.follower.take()?;
        self.cursor.leave(&mut place.subscription);
        follower.release();
        Some(follower)
    }
}

impl Member {
    /// Leaves, and takes back what was lent.
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

/// The task of a fan.
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
        // One that its runtime drops serves nobody any more.
        if let Some(fan) = self.fan.upgrade() {
            fan.end();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
