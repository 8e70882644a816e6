//! The fan-out: one task writes a service's messages to all clients that keep up, without waking
//! their sessions.
//!
//! ```text
//!   topic -> SharedCursor -> FanOut -+-> socket of a session that sleeps
//!                                    +-> socket of a session that sleeps
//!                                    +-> socket that is full -> its session takes over
//! ```
//!
//! Lock order: a fan-out before the I/O of a connection, and this before a topic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use slab::Slab;

use crate::bus::{
    Burst, BurstFilter, ClientId, InMemoryMessageBus, SharedCursor, Subscription, Topic,
};
use crate::metrics::Metrics;
use crate::rt::{Instant, Runtime, WorkerId};
use crate::shards::Shards;
use crate::sync::Mutex;

/// The most subscribers of a fan-out: after so many writes, other tasks get their turn.
const SUBSCRIBERS_MAX: usize = 256;

/// The number of writes that share a reading of the clock.
const WRITES_PER_TIME: usize = 16;

/// The socket of a session, as a fan-out writes to it.
pub(crate) trait Sink: Send + Sync {
    /// Writes the burst after the bytes that are being written. If the socket does not take all of
    /// it, the session writes the rest.
    fn write(&self, burst: &Arc<Burst>, metrics: &Metrics, now: Instant) -> Written;

    /// Adds a burst to the bytes to be written, after a panic in [`write`](Self::write).
    fn keep(&self, burst: &Arc<Burst>);

    /// Notes that the session takes over from the fan-out.
    fn release(&self);

    /// Wakes the session.
    fn wake(&self);
}

/// The result of a write to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The socket has not taken the whole burst.
    Incomplete,
    /// The socket has taken the whole burst at once; the caller is to count the write.
    Uncounted,
    /// The socket has taken the whole burst, after earlier bytes; the write is counted.
    Counted,
}

/// Counts this many writes of a burst that ended at `now`.
pub(crate) fn count(burst: &Burst, writes: u64, metrics: &Metrics, now: Instant) {
    let (messages, bytes) = (burst.messages() as u64, burst.bytes().len() as u64);
    metrics.messages_out.add(messages * writes);
    metrics.bytes_out.add(bytes * writes);
    burst.observe(&metrics.written_after, writes, now);
}

/// The sessions of one worker that follow one topic.
pub(crate) struct FanOut {
    state: Mutex<State>,
    task: AbortHandle,
    /// The list that has this fan-out, and its key there.
    listed: (Arc<Mutex<Map>>, Key),
}

struct State {
    cursor: SharedCursor,
    slots: Slab<Slot>,
    filter: BurstFilter,
    /// The version of the bus's taps at which no subscriber was tapped.
    taps_version: u64,
    /// Whether the task has ended.
    is_over: bool,
}

/// The slot of a subscriber; kept until its session takes back its subscription.
struct Slot {
    client: ClientId,
    subscription: Subscription,
    /// `None` once the session has taken over.
    sink: Option<Arc<dyn Sink>>,
}

/// A session's membership in a fan-out; dropping it unsubscribes.
pub(crate) struct Membership {
    fan_out: Arc<FanOut>,
    /// `None` only while the membership is being dropped.
    key: Option<usize>,
}

/// The result of an attempt to join a fan-out.
enum JoinOutcome {
    /// The subscribers are at another offset at the moment.
    OtherOffset(Subscriber),
    Joined(Membership),
    /// The fan-out is full, has ended, or has subscribers with another limit of bytes.
    Refused(Subscriber),
}

/// The values that a session lends to a fan-out.
pub(crate) struct Subscriber {
    pub(crate) client: ClientId,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) subscription: Subscription,
    pub(crate) filter: BurstFilter,
}

/// The fan-outs of an application.
pub(crate) struct FanOuts<R> {
    shared: Shared<R>,
    map: Arc<Mutex<Map>>,
}

/// The fan-outs of each topic on each worker.
type Map = BTreeMap<Key, Vec<Weak<FanOut>>>;

type Key = (WorkerId, Topic);

/// The values that all fan-outs of an application use.
#[derive(Clone)]
struct Shared<R> {
    rt: R,
    bus: InMemoryMessageBus,
    metrics: Arc<Shards<Metrics>>,
}

impl<R: Runtime> FanOuts<R> {
    pub(crate) fn new(rt: R, bus: InMemoryMessageBus, metrics: Arc<Shards<Metrics>>) -> Self {
        Self {
            shared: Shared { rt, bus, metrics },
            map: Arc::new(Mutex::new(BTreeMap::new())),
        }
    }

    /// Joins a fan-out of the topic, which is made if necessary. Returns the subscriber if the
    /// session is not bound to a worker, or if the subscribers are at another offset at the moment.
    pub(crate) fn join(&self, mut subscriber: Subscriber) -> Result<Membership, Subscriber> {
        let Some(worker) = self.shared.rt.worker() else {
            return Err(subscriber);
        };
        let key = (worker, subscriber.subscription.topic().clone());
        // The newest fan-out first, as the older ones are mostly full.
        let mut before = usize::MAX;
        while let Some((index, fan_out)) = self.newest(&key, before) {
            match fan_out.join(subscriber) {
                JoinOutcome::OtherOffset(subscriber) => return Err(subscriber),
                JoinOutcome::Joined(membership) => return Ok(membership),
                JoinOutcome::Refused(back) => subscriber = back,
            }
            before = index;
        }
        let (fan_out, task) = FanOut::new(&self.shared, &subscriber, &self.map, &key);
        let weak = Arc::downgrade(&fan_out);
        self.map.lock().entry(key).or_default().push(weak);
        self.shared.rt.spawn(task);
        match fan_out.join(subscriber) {
            JoinOutcome::Joined(membership) => Ok(membership),
            JoinOutcome::OtherOffset(subscriber) | JoinOutcome::Refused(subscriber) => {
                Err(subscriber)
            }
        }
    }
}

impl<R> FanOuts<R> {
    /// The newest fan-out before index `before` of the list, and its index.
    ///
    /// Returns a single fan-out, which is used without the lock: dropping the last handle of a
    /// fan-out takes the lock to remove it from the list.
    fn newest(&self, key: &Key, before: usize) -> Option<(usize, Arc<FanOut>)> {
        let map = self.map.lock();
        let fan_outs = map.get(key)?;
        let earlier = &fan_outs[..before.min(fan_outs.len())];
        let found = |(index, fan_out): (usize, &Weak<FanOut>)| Some((index, fan_out.upgrade()?));
        earlier.iter().enumerate().rev().find_map(found)
    }
}

impl FanOut {
    /// Adds a subscriber, if it is at the offset of the others.
    fn join(self: &Arc<Self>, mut subscriber: Subscriber) -> JoinOutcome {
        let mut state = self.state.lock();
        let is_full = state.cursor.members() >= SUBSCRIBERS_MAX;
        let has_same_limit = state.filter.bytes_max == subscriber.filter.bytes_max;
        if state.is_over || is_full || !has_same_limit {
            return JoinOutcome::Refused(subscriber);
        }
        if !state.cursor.join(&mut subscriber.subscription) {
            return JoinOutcome::OtherOffset(subscriber);
        }
        state.filter.since = state.filter.since.max(subscriber.filter.since);
        let key = Some(state.slots.insert(Slot {
            client: subscriber.client,
            subscription: subscriber.subscription,
            sink: Some(subscriber.sink),
        }));
        let fan_out = Arc::clone(self);
        JoinOutcome::Joined(Membership { fan_out, key })
    }

    fn new<R: Runtime>(
        shared: &Shared<R>,
        subscriber: &Subscriber,
        map: &Arc<Mutex<Map>>,
        key: &Key,
    ) -> (Arc<Self>, BoxFuture<'static, ()>) {
        let (task, registration) = AbortHandle::new_pair();
        let state = State {
            cursor: SharedCursor::beside(&subscriber.subscription),
            slots: Slab::new(),
            filter: subscriber.filter,
            // No bus has this version: the first flush checks all subscribers.
            taps_version: u64::MAX,
            is_over: false,
        };
        let fan_out = Arc::new(Self {
            state: Mutex::new(state),
            task,
            listed: (Arc::clone(map), key.clone()),
        });
        let task = Task {
            shared: shared.clone(),
            fan_out: Arc::downgrade(&fan_out),
        };
        (
            fan_out,
            Abortable::new(task, registration).map(drop).boxed(),
        )
    }

    /// Writes new messages to all subscribers; ready once the fan-out has ended.
    fn poll<R: Runtime>(&self, cx: &mut Context<'_>, shared: &Shared<R>) -> Poll<()> {
        let mut state = self.state.lock();
        let released = state.flush(cx, shared);
        let is_over = state.is_over;
        drop(state);
        // With no lock held, as each call wakes a session.
        for sink in released {
            sink.wake();
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Returns every subscriber to its session, and accepts no more.
    fn end(&self) {
        let released = self.state.lock().end();
        for sink in released {
            sink.wake();
        }
    }

    /// Removes a subscriber's slot, and returns its subscription.
    fn leave(&self, key: usize) -> Subscription {
        let mut state = self.state.lock();
        let mut slot = state.slots.remove(key);
        if slot.sink.is_some() {
            state.cursor.leave(&mut slot.subscription);
        }
        drop(state);
        slot.subscription
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        self.task.abort();
        let (map, key) = &self.listed;
        let mut map = map.lock();
        if let Some(fan_outs) = map.get_mut(key) {
            fan_outs.retain(|fan_out| fan_out.strong_count() > 0);
            if fan_outs.is_empty() {
                map.remove(key);
            }
        }
    }
}

impl State {
    /// Writes new messages to all subscribers, and returns the subscribers whose sessions take
    /// over.
    fn flush<R: Runtime>(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared<R>,
    ) -> Vec<Arc<dyn Sink>> {
        if self.is_over {
            return self.end();
        }
        let mut released = self.release_tapped(&shared.bus);
        released.extend(match self.cursor.poll_burst(cx, self.filter) {
            Poll::Pending => Vec::new(),
            Poll::Ready(Some(burst)) => self.write(&burst, shared),
            Poll::Ready(None) => self.end(),
        });
        released
    }

    /// Releases the tapped subscribers: only their sessions report events for each message.
    fn release_tapped(&mut self, bus: &InMemoryMessageBus) -> Vec<Arc<dyn Sink>> {
        let version = bus.taps_version();
        if std::mem::replace(&mut self.taps_version, version) == version {
            return Vec::new();
        }
        let is_tapped = |(_, slot): &(usize, &Slot)| bus.is_client_tapped(slot.client);
        let tapped = self.slots.iter().filter(is_tapped);
        let keys: Vec<_> = tapped.map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    fn write<R: Runtime>(&mut self, burst: &Arc<Burst>, shared: &Shared<R>) -> Vec<Arc<dyn Sink>> {
        let metrics = shared.metrics.here();
        let mut now = shared.rt.now();
        let mut behind = Vec::new();
        let mut passed = 0;
        let mut left = WRITES_PER_TIME;
        for (key, slot) in &self.slots {
            if left == 0 {
                count(burst, std::mem::take(&mut passed), metrics, now);
                now = shared.rt.now();
                left = WRITES_PER_TIME;
            }
            left -= 1;
            let Some(sink) = &slot.sink else {
                continue;
            };
            // A panic in one socket must not keep the burst from the other subscribers.
            let write = || sink.write(burst, metrics, now);
            match catch_unwind(AssertUnwindSafe(write)) {
                Ok(Written::Counted) => {}
                Ok(Written::Uncounted) => passed += 1,
                Ok(Written::Incomplete) => behind.push(key),
                Err(_panic) => {
                    sink.keep(burst);
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

    /// Releases all subscribers, and ends the fan-out.
    fn end(&mut self) -> Vec<Arc<dyn Sink>> {
        self.is_over = true;
        let keys: Vec<_> = self.slots.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    /// Hands a subscriber back to its session, which takes back its subscription at its next poll.
    fn release(&mut self, key: usize) -> Option<Arc<dyn Sink>> {
        let slot = self.slots.get_mut(key)?;
        let sink = slot.sink.take()?;
        self.cursor.leave(&mut slot.subscription);
        sink.release();
        Some(sink)
    }
}

impl Membership {
    /// Leaves the fan-out, and returns the subscription.
    pub(crate) fn leave(mut self) -> Option<Subscription> {
        self.take()
    }

    fn take(&mut self) -> Option<Subscription> {
        let key = self.key.take()?;
        Some(self.fan_out.leave(key))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The task that writes to the subscribers of a fan-out.
struct Task<R: Runtime> {
    shared: Shared<R>,
    fan_out: Weak<FanOut>,
}

impl<R: Runtime> Future for Task<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let fan_out = self.fan_out.upgrade();
        fan_out.map_or(Poll::Ready(()), |fan_out| fan_out.poll(cx, &self.shared))
    }
}

impl<R: Runtime> Drop for Task<R> {
    fn drop(&mut self) {
        // A runtime that drops the task ends the fan-out, as no other task would serve the
        // subscribers.
        if let Some(fan_out) = self.fan_out.upgrade() {
            fan_out.end();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
