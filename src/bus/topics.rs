//! The topics of a bus, found by name.
//!
//! Lock order: the map of topics, with the shelf of histories, before the log of one topic. No
//! thread holds a lock while it wakes a task.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use foldhash::quality::RandomState;

use super::batch::Batch;
use super::counts::TopicCounts;
use super::delivery::Delivery;
use super::history::{
    Archive, EndError, Histories, Kept, Maker, Moment, Position, Present, Shelf, Unheard, check_end,
};
use super::reader::{Joined, Joining};
use super::room::ServiceName;
use super::state::{Appended, Slot, TopicState, Unpublished};
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

/// The result of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The number of subscribers.
    pub subscribers: usize,
    /// The position of the last message in the history of the topic; `None` without a history, or
    /// for messages that it does not take.
    pub position: Option<Position>,
    /// Whether the stream of the topic has ended before: no message was published then.
    pub has_ended: bool,
}

/// The result of a publish after the end.
const ENDED: Published = Published {
    subscribers: 0,
    position: None,
    has_ended: true,
};

impl From<Appended> for Published {
    fn from(appended: Appended) -> Self {
        Self {
            subscribers: appended.subscribers,
            position: appended.position,
            has_ended: false,
        }
    }
}

/// The topics of one bus, and its taps.
#[derive(Debug)]
pub(super) struct Topics {
    window: Window,
    windows: BTreeMap<ServiceName, Window>,
    max: usize,
    pub(super) taps: Taps,
    /// `None` for a bus without histories.
    pub(super) archive: Option<Archive>,
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
    /// The histories of topics without subscribers, and a note for each other history; `None` for a
    /// bus without histories.
    pub(super) shelf: Option<Shelf<Arc<TopicState>>>,
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

    pub(super) fn get(&self, topic: &Topic) -> Option<&Arc<TopicState>> {
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
            archive: None,
            map: Mutex::new(Map::default()),
        }
    }

    /// Gives a new bus histories.
    pub(super) fn with_histories(self, histories: Histories) -> Self {
        let archive = Archive::new(histories);
        let map = Map {
            shelf: Some(Shelf::new(*archive.limits())),
            ..Map::default()
        };
        Self {
            archive: Some(archive),
            map: Mutex::new(map),
            ..self
        }
    }

    /// The archive at the present moment, if the topic has a history.
    pub(super) fn archive_of(&self, topic: &Topic) -> Option<Present<'_>> {
        let archive = self.archive.as_ref()?;
        archive.records(topic).then(|| archive.present())
    }

    /// The present moment, if the topic has a history.
    #[inline]
    pub(super) fn now_of(&self, state: &TopicState) -> Option<Moment> {
        let archive = self.archive.as_ref().filter(|_| state.is_recorded());
        archive.map(Archive::now)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock()
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.map.lock().get(topic).cloned()
    }

    /// Publishes to the topic's subscribers, or else into the history of the topic.
    pub(super) fn publish(&self, topic: &Topic, mut batch: Batch, maker: &Maker) -> Published {
        loop {
            if let Some(state) = self.find(topic) {
                match self.publish_at(&state, batch, maker) {
                    Ok(published) => return published,
                    Err(back) => batch = back,
                }
            }
            match self.publish_unheard(topic, batch, maker) {
                Ok(published) => return published,
                // A subscriber has come meanwhile.
                Err(back) => batch = back,
            }
        }
    }

    /// Publishes the end of a topic with a history, and returns its position.
    pub(super) fn end(
        &self,
        topic: &Topic,
        end: Batch,
        maker: &Maker,
    ) -> Result<Position, EndError> {
        if self.archive_of(topic).is_none() {
            return Err(EndError::Unrecorded);
        }
        check_end(end.frames())?;
        let published = self.publish(topic, end.delivered(Delivery::End), maker);
        published.position.ok_or(EndError::Ended)
    }

    /// Publishes to the topic that an earlier look-up found, if it did; looks the topic up
    /// otherwise.
    #[inline]
    pub(super) fn publish_on(
        &self,
        found: Option<&TopicState>,
        topic: &Topic,
        batch: Batch,
        maker: &Maker,
    ) -> Published {
        let published = match found {
            Some(state) => self.publish_at(state, batch, maker),
            None => Err(batch),
        };
        // A topic that lost its last subscriber was removed for good; a new topic may have its
        // name.
        published.unwrap_or_else(|batch| self.publish(topic, batch, maker))
    }

    /// Publishes at a found topic; returns the batch as the error if the topic has no subscribers.
    #[inline]
    fn publish_at(
        &self,
        state: &TopicState,
        batch: Batch,
        maker: &Maker,
    ) -> Result<Published, Batch> {
        let told = self.copy_for_taps(&batch);
        let published = match state.publish(batch, self.now_of(state)) {
            Ok(published) => published,
            Err(Unpublished::NoReaders(batch)) => return Err(batch),
            Err(Unpublished::Ended) => return Ok(ENDED),
        };
        self.tell_published(state.topic(), told, published);
        if published.position.is_some() {
            self.make_room(state.topic(), maker);
        }
        Ok(published.into())
    }

    /// Clones the batch before a publish consumes it, if at least one topic has a tap.
    #[inline]
    pub(super) fn copy_for_taps(&self, batch: &Batch) -> Option<Batch> {
        self.taps.any_topic().then(|| batch.clone())
    }

    /// Tells the taps of a topic which of the first messages of this batch were published.
    #[inline]
    pub(super) fn tell_published(&self, topic: &Topic, told: Option<Batch>, published: Appended) {
        if let Some(batch) = told
            && published.is_tapped
        {
            self.tell_each(topic, &batch, published);
        }
    }

    #[cold]
    fn tell_each(&self, topic: &Topic, batch: &Batch, result: Appended) {
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
            let _told = state.publish(events, None);
        }
    }

    /// Publishes without subscribers: counts the messages here, as there is no topic that could
    /// count them, and appends them to the history on the shelf. Returns the batch as the error if
    /// the topic has a history and a subscriber.
    ///
    /// A client is subscribed to its own topic while it is connected: a message there without a
    /// subscriber was for a client that has left.
    fn publish_unheard(
        &self,
        topic: &Topic,
        mut batch: Batch,
        maker: &Maker,
    ) -> Result<Published, Batch> {
        let archive = self.archive_of(topic);
        let mut map = self.map.lock();
        let has_readers = |state: &Arc<TopicState>| state.lock().readers() > 0;
        if archive.is_some() && map.get(topic).is_some_and(has_readers) {
            return Err(batch);
        }
        let position = match (&mut map.shelf, archive) {
            (Some(shelf), Some(Present { archive, now })) => {
                let unheard = Unheard { topic, maker, now };
                shelf.publish(archive, unheard, &mut batch)
            }
            (Some(_) | None, _) => Ok(None),
        };
        let Ok(position) = position else {
            return Ok(ENDED);
        };
        let messages = batch.len() as u64;
        map.retired.published += messages;
        if topic.client().is_some() {
            map.retired.lost_gone += messages;
        }
        Ok(Published {
            subscribers: 0,
            position,
            has_ended: false,
        })
    }

    /// Drops messages of histories until all together keep no more bytes than they may: the oldest
    /// on the shelf, first of this maker, then the oldest of this topic.
    #[inline]
    fn make_room(&self, topic: &Topic, maker: &Maker) {
        if self.archive.as_ref().is_some_and(Archive::is_over) {
            self.drop_oldest(topic, maker);
        }
    }

    #[cold]
    fn drop_oldest(&self, topic: &Topic, maker: &Maker) {
        let mut map = self.map.lock();
        // The history is that of its maker, whose oldest rooms make room first, whatever client
        // publishes.
        let own = map.get(topic);
        let own = own.and_then(|state| Some(state.lock().history()?.maker().clone()));
        let maker = own.as_ref().unwrap_or(maker);
        if let (Some(archive), Some(shelf)) = (&self.archive, &mut map.shelf) {
            shelf.make_room(maker, || archive.is_over());
        }
        if let Some(state) = map.get(topic)
            && let Some(kept) = state.lock().history_mut()
        {
            kept.make_room();
        }
    }

    /// Adds a reader. The map's lock is held meanwhile, so that no other thread removes the topic
    /// between the look-up and the new reader.
    pub(super) fn subscribe(
        &self,
        topic: &Topic,
        joining: &Joining,
    ) -> Result<(Arc<TopicState>, Slot, Joined), SubscribeError> {
        let archive = self.archive_of(topic);
        let now = archive.map(|present| present.now);
        let mut map = self.map.lock();
        let state = match map.get(topic) {
            Some(state) => Arc::clone(state),
            None if map.len() >= self.max => {
                return Err(SubscribeError::TooManyTopics { max: self.max });
            }
            None => {
                let kept = archive.and_then(|Present { archive, now }| {
                    let shelved = map.shelf.as_mut()?.take(topic);
                    shelved.or_else(|| archive.make(topic, &joining.maker, now))
                });
                self.insert(&mut map, topic, kept.zip(now))
            }
        };
        let (slot, joined) = state.lock().enter(joining, now);
        drop(map);
        Ok((state, slot, joined))
    }

    /// Makes a topic, with the history that it has from this moment on.
    fn insert(
        &self,
        map: &mut Map,
        topic: &Topic,
        history: Option<(Box<Kept>, Moment)>,
    ) -> Arc<TopicState> {
        let expiry = history.as_ref().map(|(kept, now)| kept.next_expiry(now.at));
        let history = history.map(|(kept, _now)| kept);
        let state = TopicState::new(topic.clone(), self.window(topic), history);
        state.lock().is_tapped = self.taps.is_topic_tapped(topic);
        let state = Arc::new(state);
        map.states.insert(Named(Arc::clone(&state)), ());
        if let (Some(expiry), Some(shelf)) = (expiry, &mut map.shelf) {
            shelf.note_live(topic, Arc::clone(&state), expiry);
        }
        state
    }

    /// The window of a topic.
    fn window(&self, topic: &Topic) -> Window {
        let of_service = || self.windows.get(topic.room()?.kind()).copied();
        let own = topic.own_window().or_else(of_service);
        own.unwrap_or(self.window)
    }

    /// Removes a reader, and with the last reader the topic.
    pub(super) fn unsubscribe(&self, state: &Arc<TopicState>, slot: Slot) {
        let now = self.now_of(state);
        // The map stays locked from before the reader leaves until the topic is removed:
        // `subscribe` would find a topic without readers otherwise, and attach a reader that no
        // publisher can find.
        let mut map = self.map.lock();
        let mut guarded = state.lock();
        let is_use = !slot.is_provisional;
        let waker = guarded.leave(slot);
        let publishers = guarded.unpark_publishers();
        let processed = guarded.unpark_processed();
        let is_last = guarded.readers() == 0;
        if is_last && !planted::is(Bug::CountsForgotten) {
            // Under both locks, so that the counts are seen in the topic or in `retired`, never in
            // both.
            map.retired.add(&guarded.counts());
        }
        // Under both locks, too: no thread finds the room without its history.
        if let (Some(kept), Some(now)) = (guarded.history_mut(), now)
            && is_use
        {
            kept.note_use(now.at);
        }
        let history = guarded.take_history();
        drop(guarded);
        if let (Some(kept), Some(shelf)) = (history, &mut map.shelf) {
            shelf.shelve(state.topic(), kept);
        }
        let is_removed = is_last && !planted::is(Bug::TopicLeaked);
        let removed = is_removed.then(|| map.states.remove_entry(state.topic()));
        drop(map);
        drop((waker, removed));
        publishers.wake();
        if let Some(processed) = processed {
            processed.wake();
        }
    }

    /// Adds or removes a tap, and marks a tapped topic accordingly.
    ///
    /// The map's lock is held meanwhile: a topic that another thread makes at the same time is
    /// marked by `subscribe` or here.
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
