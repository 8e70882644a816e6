//! All topics of a bus in this process, found by name.
//!
//! Lock order: the map of topics before the log of one topic. No lock is held across a wake.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use foldhash::quality::RandomState;

use super::batch::Batch;
use super::counts::TopicCounts;
use super::state::{Published, Slot, TopicState};
use super::taps::{Tapped, Taps, published};
use super::topic::{ServiceName, Topic};
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{Arc, Mutex, MutexGuard};

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bus has as many topics as it may.
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

/// What the lock of the map guards.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Names are hashed with a seed of this process, which clients do not know.
    /// A topic is its own key: each client has one, and its name is there once.
    states: HashMap<Named, (), RandomState>,
    /// The counts of removed topics, and of messages on topics that were not there.
    pub(super) retired: TopicCounts,
}

/// A topic, found by its name.
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

    /// Every topic, in no order.
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

    /// Publishes to the topic's subscribers, and returns how many there are.
    pub(super) fn publish(&self, topic: &Topic, batch: Batch) -> usize {
        let messages = batch.len();
        let found = self.find(topic);
        let subscribers = found.and_then(|state| self.publish_at(&state, batch).ok());
        subscribers.unwrap_or_else(|| self.unheard(topic, messages))
    }

    /// The same where the topic was found before, if it was.
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
        // A topic that lost its last subscriber never gets another one: there may be a new one.
        published.unwrap_or_else(|batch| self.publish(topic, batch))
    }

    /// Gives the batch back if the topic has no subscribers any more.
    #[inline]
    fn publish_at(&self, state: &TopicState, batch: Batch) -> Result<usize, Batch> {
        let told = self.copy_for_taps(&batch);
        let published = state.publish(batch)?;
        self.tell_published(state.topic(), told, published);
        Ok(published.subscribers)
    }

    /// The batch, which is about to be given away, if any topic has a tap.
    #[inline]
    pub(super) fn copy_for_taps(&self, batch: &Batch) -> Option<Batch> {
        self.taps.any_topic().then(|| batch.clone())
    }

    /// Tells the taps of a topic of the first messages of this batch that were published.
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

    /// Tells events to the taps of this.
    pub(super) fn tell(&self, tapped: &Tapped, events: impl FnOnce() -> Option<Batch>) {
        if let Some(state) = self.find(&tapped.events())
            && let Some(events) = events()
        {
            // The tap may have ended meanwhile.
            let _told = state.publish(events);
        }
    }

    /// Counts messages that had no subscriber: a topic counts its own, and there is none.
    ///
    /// Each client subscribes to the topic of its own as long as it is there: a message on it that
    /// has no subscriber was for a client that has left.
    fn unheard(&self, topic: &Topic, messages: usize) -> usize {
        let retired = &mut self.map.lock().retired;
        retired.published += messages as u64;
        if topic.is_of_client() {
            retired.lost_gone += messages as u64;
        }
        0
    }

    /// Attaches a reader, under the map's lock, so that it is never attached to a topic that
    /// another thread is removing.
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

    /// What a topic keeps.
    fn window(&self, topic: &Topic) -> Window {
        let of_service = || self.windows.get(topic.service()?).copied();
        let own = topic.own_window().or_else(of_service);
        own.unwrap_or(self.window)
    }

    /// Detaches a reader, and removes the topic with its last one.
    pub(super) fn unsubscribe(&self, state: &Arc<TopicState>, slot: Slot) {
        let mut map = self.map.lock();
        let mut guarded = state.lock();
        let waker = guarded.leave(slot);
        let publishers = guarded.unpark_publishers();
        let turns = guarded.unpark_turns();
        let is_last = guarded.readers() == 0;
        if is_last && !planted::is(Bug::CountsForgotten) {
            map.retired.add(&guarded.counts());
        }
        drop(guarded);
        let is_removed = is_last && !planted::is(Bug::TopicLeaked);
        let removed = is_removed.then(|| map.states.remove_entry(state.topic()));
        drop(map);
        drop((waker, removed));
        publishers.wake();
        if let Some(turns) = turns {
            turns.wake();
        }
    }

    /// A tap begins, or one has ended: the topic learns whether it has any.
    ///
    /// Under the map's lock, so that a topic which another thread is making learns it, too.
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
