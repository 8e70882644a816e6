//! The topics of a bus, found by name.
//!
//! Lock order: the map of topics before the log of one topic. No thread holds a lock while it wakes
//! a task.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use foldhash::quality::RandomState;

use super::batch::Batch;
use super::counts::TopicCounts;
use super::room::ServiceName;
use super::state::{Published, Slot, TopicState};
use super::taps::{Tapped, Taps, published};
use super::topic::Topic;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{Arc, Mutex, MutexGuard};

/// The reason why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bus has as many topics as it allows.
    #[error("the bus already has {max} topics, the most it may; raise `Limits::topics`")]
    TooManyTopics {
        /// The limit.
        max: usize,
    },
}

/// The topics of one bus, and its taps.
#[derive(Debug)]
pub(super) struct Topics {
    window: Window,
    windows: BTreeMap<ServiceName, Window>,
    max: usize,
    pub(super) taps: Taps,
    map: Mutex<Map>,
}

/// The data behind the lock of the map.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// The hash has a random seed, so that clients cannot choose names that collide. A topic is its
    /// own key, so that its name is stored once: there is a topic for each client.
    states: HashMap<Named, (), RandomState>,
    /// The totals of removed topics, and of messages to topics that did not exist.
    pub(super) retired: TopicCounts,
}

/// A topic, hashed and compared by its name.
#[derive(Debug)]
struct Named(Arc<TopicState>);

impl Borrow<Topic> for Named {
    fn borrow(&self) -> &Topic {
        self.0.topic()
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic().hash(state);
    }
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// All topics, in no particular order.
    #[expect(clippy::disallowed_methods, reason = "callers sum up or sort")]
    pub(super) fn states(&self) -> impl Iterator<Item = &Arc<TopicState>> {
        self.states.keys().map(|Named(state)| state)
    }

    fn get(&self, topic: &Topic) -> Option<&Arc<TopicState>> {
        let (Named(state), ()) = self.states.get_key_value(topic)?;
        Some(state)
    }
}

impl Topics {
    pub(super) fn new(window: Window, windows: BTreeMap<ServiceName, Window>, max: usize) -> Self {
        Self {
            window,
            windows,
            max,
            taps: Taps::default(),
            map: Mutex::new(Map::default()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock()
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.map.lock().get(topic).cloned()
    }

    /// Publishes to the topic's subscribers, and returns their number.
    pub(super) fn publish(&self, topic: &Topic, batch: Batch) -> usize {
        let messages = batch.len();
        let found = self.find(topic);
        let subscribers = found.and_then(|state| self.publish_at(&state, batch).ok());
        subscribers.unwrap_or_else(|| self.unheard(topic, messages))
    }

    /// Publishes to the topic that an earlier look-up found, if it did; looks the topic up
    /// otherwise.
    #[inline]
    pub(super) fn publish_on(
        &self,
        found: Option<&TopicState>,
        topic: &Topic,
        batch: Batch,
    ) -> usize {
        let published = match found {
            Some(state) => self.publish_at(state, batch),
            None => Err(batch),
        };
        // A topic that lost its last subscriber was removed for good; a new topic may have its
        // name.
        published.unwrap_or_else(|batch| self.publish(topic, batch))
    }

    /// Publishes at a found topic; returns the batch as the error if the topic has no subscribers.
    #[inline]
    fn publish_at(&self, state: &TopicState, batch: Batch) -> Result<usize, Batch> {
        let told = self.copy_for_taps(&batch);
        let published = state.publish(batch)?;
        self.tell_published(state.topic(), told, published);
        Ok(published.subscribers)
    }

    /// Clones the batch before a publish consumes it, if at least one topic has a tap.
    #[inline]
    pub(super) fn copy_for_taps(&self, batch: &Batch) -> Option<Batch> {
        self.taps.any_topic().then(|| batch.clone())
    }

    /// Tells the taps of a topic which of the first messages of this batch were published.
    #[inline]
    pub(super) fn tell_published(&self, topic: &Topic, told: Option<Batch>, published: Published) {
        if let Some(batch) = told
            && published.is_tapped
        {
            self.tell_each(topic, &batch, published);
        }
    }

    #[cold]
    fn tell_each(&self, topic: &Topic, batch: &Batch, result: Published) {
        let tapped = Tapped::Topic(topic.clone());
        let messages = batch.messages().zip(result.first..);
        let events = messages
            .map(|(message, offset)| published(&message, offset, result.subscribers).into());
        self.tell(&tapped, || Batch::join(events));
    }

    /// Publishes events to the taps of this subject.
    pub(super) fn tell(&self, tapped: &Tapped, events: impl FnOnce() -> Option<Batch>) {
        if let Some(state) = self.find(&tapped.events())
            && let Some(events) = events()
        {
            // A tap that has ended meanwhile gets no events.
            let _told = state.publish(events);
        }
    }

    /// Counts messages without subscribers here, as there is no topic that could count them.
    ///
    /// A client is subscribed to its own topic while it is connected: a message there without a
    /// subscriber was for a client that has left.
    fn unheard(&self, topic: &Topic, messages: usize) -> usize {
        let retired = &mut self.map.lock().retired;
        retired.published += messages as u64;
        if topic.client().is_some() {
            retired.lost_gone += messages as u64;
        }
        0
    }

    /// Adds a reader. The map's lock is held meanwhile, so that no other thread removes the topic
    /// between the look-up and the new reader.
    pub(super) fn subscribe(
        &self,
        topic: &Topic,
    ) -> Result<(Arc<TopicState>, Slot), SubscribeError> {
        let mut map = self.map.lock();
        let state = match map.get(topic) {
            Some(state) => Arc::clone(state),
            None if map.len() >= self.max => {
                return Err(SubscribeError::TooManyTopics { max: self.max });
            }
            None => {
                let is_tapped = self.taps.is_topic_tapped(topic);
                let state = TopicState::new(topic.clone(), self.window(topic), is_tapped);
                let state = Arc::new(state);
                map.states.insert(Named(Arc::clone(&state)), ());
                state
            }
        };
        let slot = state.lock().enter();
        drop(map);
        Ok((state, slot))
    }

    /// The window of a topic.
    fn window(&self, topic: &Topic) -> Window {
        let of_service = || self.windows.get(topic.room()?.kind()).copied();
        let own = topic.own_window().or_else(of_service);
        own.unwrap_or(self.window)
    }

    /// Removes a reader, and with the last reader the topic.
    pub(super) fn unsubscribe(&self, state: &Arc<TopicState>, slot: Slot) {
        // The map stays locked from before the reader leaves until the topic is removed:
        // `subscribe` would find a topic without readers otherwise, and attach a reader that no
        // publisher can find.
        let mut map = self.map.lock();
        let mut guarded = state.lock();
        let waker = guarded.leave(slot);
        let publishers = guarded.unpark_publishers();
        let processed = guarded.unpark_processed();
        let is_last = guarded.readers() == 0;
        if is_last && !planted::is(Bug::CountsForgotten) {
            // Under both locks, so that the counts are seen in the topic or in `retired`, never in
            // both.
            map.retired.add(&guarded.counts());
        }
        drop(guarded);
        let is_removed = is_last && !planted::is(Bug::TopicLeaked);
        let removed = is_removed.then(|| map.states.remove_entry(state.topic()));
        drop(map);
        drop((waker, removed));
        publishers.wake();
        if let Some(processed) = processed {
            processed.wake();
        }
    }

    /// Adds or removes a tap, and span a tapped topic accordingly.
    ///
    /// The map's lock is held meanwhile: a topic that another thread makes at the same time is
    /// spaned by `subscribe` or here.
    pub(super) fn change_taps(&self, tapped: &Tapped, change: impl FnOnce(&Taps, &Tapped)) {
        let map = self.map.lock();
        change(&self.taps, tapped);
        if let Tapped::Topic(topic) = tapped
            && let Some(state) = map.get(topic)
        {
            state.lock().is_tapped = self.taps.is_topic_tapped(topic);
        }
    }
}
