//! The message bus in this process's memory.

use std::collections::BTreeMap;

use super::MessageBus;
use super::batch::Batch;
use super::counts::{BusCounts, TopicStatus};
use super::log::Log;
use super::publisher::Publisher;
use super::subscription::Subscription;
use super::tap::Tap;
use super::taps::Tapped;
use super::topic::{ClientId, ServiceName, Topic};
use super::topics::{SubscribeError, Topics};
use crate::limits::Window;
use crate::sync::Arc;

/// A [`MessageBus`] of this process; clones are handles on the same bus.
#[derive(Clone, Debug)]
pub struct InMemoryMessageBus {
    topics: Arc<Topics>,
}

impl InMemoryMessageBus {
    /// A bus whose topics keep `window` each, and of which at most `topics_max` exist at once.
    pub fn new(window: Window, topics_max: usize) -> Self {
        Self::with_windows(window, BTreeMap::new(), topics_max)
    }

    /// The same, with windows of their own for the topics of some services.
    pub fn with_windows(
        window: Window,
        windows: BTreeMap<ServiceName, Window>,
        topics_max: usize,
    ) -> Self {
        Self {
            topics: Arc::new(Topics::new(window, windows, topics_max)),
        }
    }

    /// What the bus holds and has done; takes time in proportion to the number of topics.
    pub fn counts(&self) -> BusCounts {
        let map = self.topics.lock();
        let mut counts = BusCounts {
            topics: map.len(),
            messages: map.retired,
            ..BusCounts::default()
        };
        for state in map.states() {
            let guarded = state.lock();
            counts.subscriptions += guarded.readers();
            counts.bytes += guarded.log().map_or(0, Log::bytes);
            counts.messages.add(&guarded.counts());
        }
        counts
    }

    /// Watches what happens from now on, without being noticed.
    ///
    /// A topic need not be there yet. On several threads events may be told in another order than
    /// they happen in.
    ///
    /// # Errors
    ///
    /// When there are as many topics as the bus allows.
    pub fn tap(&self, tapped: Tapped) -> Result<Tap, SubscribeError> {
        let events = self.subscribe(&tapped.events())?;
        Ok(Tap::new(Arc::clone(&self.topics), tapped, events))
    }

    /// Taps there are.
    pub fn taps(&self) -> u64 {
        self.topics.taps.count()
    }

    /// Whether this client is tapped; see [`taps_version`](Self::taps_version).
    pub(crate) fn is_client_tapped(&self, client: ClientId) -> bool {
        self.topics.taps.is_client_tapped(client)
    }

    /// A number that changes whenever the taps of clients do.
    #[inline]
    pub(crate) fn taps_version(&self) -> u64 {
        self.topics.taps.version()
    }

    /// Whether this topic is tapped.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn is_topic_tapped(&self, topic: &Topic) -> bool {
        self.topics.taps.is_topic_tapped(topic)
    }

    /// Publishers that wait for their turn on this topic.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn waiting_for_turns(&self, topic: &Topic) -> usize {
        let state = self.topics.find(topic).expect("it has a subscriber");
        state.lock().waiting_publishers().1
    }

    /// Whether this topic is there, and tells a tap of what is published on it.
    #[cfg(all(test, feature = "loom"))]
    pub(super) fn is_marked(&self, topic: &Topic) -> bool {
        let state = self.topics.find(topic);
        state.is_some_and(|state| state.lock().is_tapped)
    }

    /// Tells an event to the taps of this.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&self, tapped: &Tapped, event: impl FnOnce() -> serde_json::Value) {
        self.topics
            .tell(tapped, || Some(event().to_string().into()));
    }

    /// Every topic there is, by name; takes time in proportion to their number.
    pub fn topics(&self) -> Vec<TopicStatus> {
        let map = self.topics.lock();
        let mut topics: Vec<_> = map
            .states()
            .map(|state| {
                let guarded = state.lock();
                TopicStatus {
                    topic: state.topic().clone(),
                    subscribers: guarded.readers(),
                    messages: guarded.log().map_or(0, Log::messages),
                    bytes: guarded.log().map_or(0, Log::bytes),
                    counts: guarded.counts(),
                }
            })
            .collect();
        drop(map);
        topics.sort_by_cached_key(|status| status.topic.to_string());
        topics
    }

    /// How many subscribers a topic has.
    pub fn subscribers(&self, topic: &Topic) -> usize {
        let state = self.topics.find(topic);
        state.map_or(0, |state| state.lock().readers())
    }

    /// What one topic has done since it got its first subscriber; `None` if it has none.
    pub fn topic_counts(&self, topic: &Topic) -> Option<super::TopicCounts> {
        let state = self.topics.find(topic)?;
        let counts = state.lock().counts();
        Some(counts)
    }
}

impl MessageBus for InMemoryMessageBus {
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError> {
        let (state, slot) = self.topics.subscribe(topic)?;
        Ok(Subscription::new(Arc::clone(&self.topics), state, slot))
    }

    fn publish(&self, topic: &Topic, batch: Batch) -> usize {
        self.topics.publish(topic, batch)
    }

    fn publisher(&self, topic: &Topic) -> Publisher {
        let found = self.topics.find(topic);
        Publisher::new(Arc::clone(&self.topics), topic.clone(), found)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
