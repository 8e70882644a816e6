//! The message bus in the memory of this process.

use std::collections::BTreeMap;

use crate::bus::MessageBus;
use crate::bus::batch::Batch;
use crate::bus::counts::{BusCounts, TopicStatus};
use crate::bus::history::{Histories, HistoryError, Maker, Page, Position, Reading};
use crate::bus::log::Log;
use crate::bus::publisher::Publisher;
use crate::bus::reader::{Joined, Joining};
use crate::bus::room::ServiceName;
use crate::bus::subscription::Subscription;
use crate::bus::tap::Tap;
use crate::bus::taps::Tapped;
use crate::bus::topic::{ClientId, Topic};
use crate::bus::topics::{Published, SubscribeError, Topics};
use crate::limits::Window;
use crate::sync::Arc;

/// A [`MessageBus`] in the memory of this process; clones are handles on one bus.
#[derive(Clone, Debug)]
pub struct InMemoryMessageBus {
    topics: Arc<Topics>,
}

impl InMemoryMessageBus {
    /// Makes a bus that keeps `window` for each topic, and at most `topics_max` topics at once.
    pub fn new(window: Window, topics_max: usize) -> Self {
        Self::with_windows(window, BTreeMap::new(), topics_max)
    }

    /// Makes a bus on which the topics of some services have windows of their own.
    pub fn with_windows(
        window: Window,
        windows: BTreeMap<ServiceName, Window>,
        topics_max: usize,
    ) -> Self {
        Self {
            topics: Arc::new(Topics::new(window, windows, topics_max)),
        }
    }

    /// Makes a bus that keeps histories of some services and kinds of rooms.
    pub fn with_histories(
        window: Window,
        windows: BTreeMap<ServiceName, Window>,
        topics_max: usize,
        histories: Histories,
    ) -> Self {
        let topics = Topics::new(window, windows, topics_max);
        Self {
            topics: Arc::new(topics.with_histories(histories)),
        }
    }

    /// Subscribes to the messages published on the topic from now on, and before them to the
    /// messages of its history that the subscriber asks for, without a gap and without a duplicate.
    ///
    /// On a topic without a history, does what [`subscribe`](MessageBus::subscribe) does.
    ///
    /// # Errors
    ///
    /// When the topic is new and the bus already has as many topics as it allows.
    pub fn subscribe_since(
        &self,
        topic: &Topic,
        joining: &Joining,
    ) -> Result<(Subscription, Joined), SubscribeError> {
        let (state, slot, joined) = self.topics.subscribe(topic, joining)?;
        let subscription = Subscription::new(Arc::clone(&self.topics), state, slot);
        Ok((subscription, joined))
    }

    /// Publishes as [`publish`](MessageBus::publish) does, and returns also the position that the
    /// messages have in the history of the topic, which `maker` makes if there is none.
    ///
    /// A topic with a history needs no subscriber to keep the messages.
    pub fn publish_by(&self, topic: &Topic, batch: Batch, maker: &Maker) -> Published {
        self.topics.publish(topic, batch, maker)
    }

    /// The state and the totals of the bus; takes time in proportion to the number of topics.
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

    /// Begins to watch the events of a topic or a client; neither notices the tap.
    ///
    /// A topic need not exist yet. With several threads, a tap may see events in another order than
    /// they happened in.
    ///
    /// # Errors
    ///
    /// When the bus already has as many topics as it allows.
    pub fn tap(&self, tapped: Tapped) -> Result<Tap, SubscribeError> {
        let events = self.subscribe(&tapped.events())?;
        Ok(Tap::new(Arc::clone(&self.topics), tapped, events))
    }

    /// The number of taps.
    pub fn taps(&self) -> u64 {
        self.topics.taps.count()
    }

    /// Whether a tap watches this client; see [`taps_version`](Self::taps_version).
    pub(crate) fn is_client_tapped(&self, client: ClientId) -> bool {
        self.topics.taps.is_client_tapped(client)
    }

    /// A version number that changes whenever a tap of a client begins or ends.
    #[inline]
    pub(crate) fn taps_version(&self) -> u64 {
        self.topics.taps.version()
    }

    /// Whether a tap watches this topic.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn is_topic_tapped(&self, topic: &Topic) -> bool {
        self.topics.taps.is_topic_tapped(topic)
    }

    /// The number of publishers that wait on this topic until their messages are processed.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn waiting_for_processed(&self, topic: &Topic) -> usize {
        let state = self.topics.find(topic).expect("it has a subscriber");
        state.lock().waiting_publishers().1
    }

    /// Whether the topic exists and is marked as tapped.
    #[cfg(all(test, feature = "loom"))]
    pub(super) fn is_marked(&self, topic: &Topic) -> bool {
        let state = self.topics.find(topic);
        state.is_some_and(|state| state.lock().is_tapped)
    }

    /// Publishes an event to the taps of this subject.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&self, tapped: &Tapped, event: impl FnOnce() -> serde_json::Value) {
        self.topics
            .tell(tapped, || Some(event().to_string().into()));
    }

    /// All topics, sorted by name; takes time in proportion to their number.
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

    /// The topic that only this client reads, while it is connected; takes time in proportion to
    /// the number of topics.
    #[cfg(feature = "server")]
    pub(crate) fn topic_of_client(&self, client: ClientId) -> Option<Topic> {
        let map = self.topics.lock();
        let mut topics = map.states().map(|state| state.topic());
        topics.find(|topic| topic.client() == Some(client)).cloned()
    }

    /// The number of subscribers of a topic.
    pub fn subscribers(&self, topic: &Topic) -> usize {
        let state = self.topics.find(topic);
        state.map_or(0, |state| state.lock().readers())
    }

    /// The totals of one topic since its first subscriber; `None` if the topic has no subscriber.
    pub fn topic_counts(&self, topic: &Topic) -> Option<super::TopicCounts> {
        let state = self.topics.find(topic)?;
        let counts = state.lock().counts();
        Some(counts)
    }
}

impl MessageBus for InMemoryMessageBus {
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError> {
        let (subscription, _joined) = self.subscribe_since(topic, &Joining::default())?;
        Ok(subscription)
    }

    fn publish(&self, topic: &Topic, batch: Batch) -> usize {
        self.publish_by(topic, batch, &Maker::default()).subscribers
    }

    fn history(&self, topic: &Topic, reading: &Reading) -> Result<Page, HistoryError> {
        Self::history(self, topic, reading)
    }

    fn position(&self, topic: &Topic) -> Option<Position> {
        Self::position(self, topic)
    }

    fn publisher(&self, topic: &Topic) -> Publisher {
        let found = self.topics.find(topic);
        Publisher::new(Arc::clone(&self.topics), topic.clone(), found)
    }
}

mod histories;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
