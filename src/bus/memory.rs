//! The message bus in this process's memory.
//!
//! Lock order: the map of topics before the log of one topic. No lock is held across a wake.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use foldhash::quality::RandomState;

use super::batch::Batch;
use super::cell::{Cell, Published};
use super::counts::TopicCounts;
use super::message::{Message, Sender};
use super::subscription::{Publisher, Seat, Subscription};
use super::tap::{Tap, Tapped, Taps, published};
use super::topic::{ClientId, ServiceName, Topic};
use super::{MessageBus, SubscribeError};
use crate::identity::Identity;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{Arc, Mutex};

/// A [`MessageBus`] of this process; clones are handles on the same bus.
#[derive(Clone, Debug)]
pub struct InMemoryMessageBus {
    shared: Arc<Shared>,
}

/// What the bus holds and has done; each topic's part is of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    /// Topics that have a subscriber.
    pub topics: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Payload bytes kept for subscribers that have not read them.
    pub bytes: usize,
    /// Sums over all topics there are and were.
    pub messages: TopicCounts,
}

/// What one topic holds and has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its name.
    pub topic: Topic,
    /// Those subscribed to it.
    pub subscribers: usize,
    /// Messages kept for those that have not read them.
    pub messages: usize,
    /// Their payload bytes.
    pub bytes: usize,
    /// What it has done since it got its first subscriber.
    pub counts: TopicCounts,
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
            shared: Arc::new(Shared {
                window,
                windows,
                topics_max,
                taps: Taps::default(),
                map: Mutex::new(Map::default()),
            }),
        }
    }

    /// What the bus holds and has done; takes time in proportion to the number of topics.
    pub fn counts(&self) -> BusCounts {
        let map = self.shared.map.lock();
        let mut counts = BusCounts {
            topics: map.cells.len(),
            messages: map.retired,
            ..BusCounts::default()
        };
        // A sum does not depend on the order of its terms.
        #[expect(
            clippy::disallowed_methods,
            reason = "the order does not matter to a sum"
        )]
        for Named(cell) in map.cells.keys() {
            let state = cell.lock();
            counts.subscriptions += state.log.readers();
            counts.bytes += state.log.bytes();
            counts.messages.add(&state.log.counts());
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
        Ok(Tap::new(Arc::clone(&self.shared), events))
    }

    /// Taps there are.
    pub fn taps(&self) -> u64 {
        self.shared.taps.count()
    }

    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn cell(&self, topic: &Topic) -> Option<Arc<Cell>> {
        self.shared.cell(topic)
    }

    /// Whether there is a tap.
    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.shared.is_tapped()
    }

    /// Tells an event to those who tap this.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&self, tapped: &Tapped, event: impl FnOnce() -> serde_json::Value) {
        self.shared.tell(tapped, || event().to_string());
    }

    /// The client of this number, whose topic is this one; a reply to it finds the topic as it is
    /// now without a look-up.
    pub(crate) fn sender(&self, number: ClientId, identity: Identity, topic: Topic) -> Sender {
        let cell = self.shared.cell(&topic);
        let route = cell.map(|cell| Route {
            shared: Arc::clone(&self.shared),
            cell,
        });
        Sender::routed(number, identity, topic, route)
    }

    /// Every topic there is, by name; takes time in proportion to their number.
    pub fn topics(&self) -> Vec<TopicStatus> {
        let map = self.shared.map.lock();
        #[expect(clippy::disallowed_methods, reason = "they are sorted")]
        let cells = map.cells.keys();
        let mut topics: Vec<_> = cells
            .map(|Named(cell)| cell.lock().log.status(cell.topic()))
            .collect();
        drop(map);
        topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        topics
    }

    /// Those subscribed to a topic.
    pub fn subscribers(&self, topic: &Topic) -> usize {
        let cell = self.shared.cell(topic);
        cell.map_or(0, |cell| cell.lock().log.readers())
    }

    /// What one topic has done since it got its first subscriber; `None` if it has none.
    pub fn topic_counts(&self, topic: &Topic) -> Option<TopicCounts> {
        let cell = self.shared.cell(topic)?;
        let counts = cell.lock().log.counts();
        Some(counts)
    }
}

impl MessageBus for InMemoryMessageBus {
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError> {
        let (cell, seat) = self.shared.subscribe(topic)?;
        let shared = Arc::clone(&self.shared);
        Ok(Subscription::new(shared, cell, seat))
    }

    fn publish(&self, topic: &Topic, message: Message) -> usize {
        self.shared.publish(topic, message)
    }

    fn reply(&self, to: &Sender, message: Message) -> usize {
        let found = to.route().and_then(|route| route.on(&self.shared));
        let subscribers = self.shared.publish_on(found, to.topic(), message);
        if subscribers == 0 {
            self.shared.count_gone();
        }
        subscribers
    }

    fn reply_batch(&self, to: &Sender, mut batch: Batch) -> usize {
        let found = to.route().and_then(|route| route.on(&self.shared));
        if let Some(subscribers) = self.shared.publish_together(found, &mut batch) {
            return subscribers;
        }
        let each = std::iter::from_fn(|| batch.pop());
        each.fold(0, |_, message| self.reply(to, message))
    }

    fn publisher(&self, topic: &Topic) -> Publisher {
        Publisher::new(
            Arc::clone(&self.shared),
            topic.clone(),
            self.shared.cell(topic),
        )
    }
}

/// Where a topic was found, and on which bus; it may be gone since.
#[derive(Clone, Debug)]
pub(super) struct Route {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
}

impl Route {
    /// The topic, if it was found on this bus.
    fn on(&self, shared: &Arc<Shared>) -> Option<&Cell> {
        Arc::ptr_eq(&self.shared, shared).then_some(&*self.cell)
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    window: Window,
    windows: BTreeMap<ServiceName, Window>,
    topics_max: usize,
    pub(super) taps: Taps,
    map: Mutex<Map>,
}

#[derive(Debug, Default)]
struct Map {
    /// Their names are hashed with a seed of this process, which clients do not know.
    /// A topic is its own key: each client has one, and its name is there once.
    cells: HashMap<Named, (), RandomState>,
    /// What the topics had done that are gone, and what was published on topics that are not there.
    retired: TopicCounts,
}

/// A topic, found by its name.
#[derive(Debug)]
struct Named(Arc<Cell>);

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

impl Shared {
    pub(super) fn cell(&self, topic: &Topic) -> Option<Arc<Cell>> {
        let map = self.map.lock();
        let found = map.cells.get_key_value(topic);
        found.map(|(Named(cell), ())| Arc::clone(cell))
    }

    /// Publishes to those subscribed to the topic, and returns how many that are.
    fn publish(&self, topic: &Topic, message: Message) -> usize {
        let found = self.cell(topic);
        let published = found.and_then(|cell| self.publish_at(&cell, topic, message).ok());
        self.count(published.unwrap_or(0))
    }

    /// The same where the topic was found before, if it was.
    #[inline]
    pub(super) fn publish_on(
        &self,
        found: Option<&Cell>,
        topic: &Topic,
        message: Message,
    ) -> usize {
        let published = match found {
            Some(cell) => self.publish_at(cell, topic, message),
            None => Err(message),
        };
        // A topic that lost its last subscriber never gets another one: there may be a new one.
        published.unwrap_or_else(|message| self.publish(topic, message))
    }

    /// The same for several, the oldest first.
    pub(super) fn publish_batch_on(
        &self,
        found: Option<&Cell>,
        topic: &Topic,
        mut batch: Batch,
    ) -> usize {
        if let Some(subscribers) = self.publish_together(found, &mut batch) {
            return subscribers;
        }
        let each = std::iter::from_fn(|| batch.pop());
        each.fold(0, |_, message| self.publish_on(found, topic, message))
    }

    /// The same with one lock, where the topic was found before and nobody is told of each message;
    /// they are left otherwise.
    fn publish_together(&self, found: Option<&Cell>, batch: &mut Batch) -> Option<usize> {
        if self.is_tapped() || batch.is_empty() {
            return None;
        }
        let published = found?.publish_batch(batch)?;
        Some(published.subscribers)
    }

    /// Gives the message back if nobody is subscribed any more.
    #[inline]
    fn publish_at(&self, cell: &Cell, topic: &Topic, message: Message) -> Result<usize, Message> {
        if self.is_tapped() {
            return self.publish_tapped(cell, topic, message);
        }
        cell.publish(message).map(|published| published.subscribers)
    }

    #[cold]
    fn publish_tapped(
        &self,
        cell: &Cell,
        topic: &Topic,
        message: Message,
    ) -> Result<usize, Message> {
        let told = message.clone();
        let published = cell.publish(message)?;
        self.tell_tapped(topic, &told, published);
        Ok(published.subscribers)
    }

    pub(super) fn tell(&self, tapped: &Tapped, event: impl FnOnce() -> String) {
        if self.taps.any()
            && let Some(cell) = self.cell(&tapped.events())
        {
            // Who tapped may be gone.
            let _told = cell.publish(Message::text(event()));
        }
    }

    /// Whether there is a tap.
    #[inline]
    pub(super) fn is_tapped(&self) -> bool {
        self.taps.any()
    }

    /// The message, which is about to be given away, if there is a tap.
    #[inline]
    pub(super) fn copy_for_taps(&self, message: &Message) -> Option<Message> {
        self.is_tapped().then(|| message.clone())
    }

    /// Tells of a message, if it was copied for that.
    #[inline]
    pub(super) fn tell_published(&self, topic: &Topic, told: Option<Message>, result: Published) {
        if let Some(message) = told {
            self.tell_tapped(topic, &message, result);
        }
    }

    #[cold]
    fn tell_tapped(&self, topic: &Topic, message: &Message, result: Published) {
        let tapped = Tapped::Topic(topic.clone());
        self.tell(&tapped, || {
            published(message, result.number, result.subscribers)
        });
    }

    /// Counts a message published to this many subscribers: a topic counts its own, but there is no
    /// topic where there is no subscriber.
    pub(super) fn count(&self, subscribers: usize) -> usize {
        if subscribers == 0 {
            self.map.lock().retired.published += 1;
        }
        subscribers
    }

    /// Counts a reply to a client that has left, whose topic counts nothing any more.
    fn count_gone(&self) {
        self.map.lock().retired.lost_gone += 1;
    }

    /// Attaches a reader, under the map's lock, so that it is never attached to a topic that
    /// another thread is taking out of the map.
    fn subscribe(&self, topic: &Topic) -> Result<(Arc<Cell>, Seat), SubscribeError> {
        let mut map = self.map.lock();
        let cell = match map.cells.get_key_value(topic) {
            Some((Named(cell), ())) => Arc::clone(cell),
            None if map.cells.len() >= self.topics_max => {
                let max = self.topics_max;
                return Err(SubscribeError::TooManyTopics { max });
            }
            None => {
                let cell = Arc::new(Cell::new(topic.clone(), self.window(topic)));
                map.cells.insert(Named(Arc::clone(&cell)), ());
                cell
            }
        };
        let seat = cell.lock().enter();
        drop(map);
        Ok((cell, seat))
    }

    /// What a topic keeps.
    fn window(&self, topic: &Topic) -> Window {
        let of_service = || self.windows.get(topic.service()).copied();
        let own = topic.own_window().or_else(of_service);
        own.unwrap_or(self.window)
    }

    pub(super) fn unsubscribe(&self, cell: &Arc<Cell>, seat: Seat) {
        let mut map = self.map.lock();
        let mut state = cell.lock();
        let waker = state.leave(seat);
        let publishers = state.unpark_publishers();
        let turns = state.unpark_turns();
        let last = state.log.readers() == 0;
        if last && !planted::is(Bug::CountsForgotten) {
            map.retired.add(&state.log.counts());
        }
        let last = last && !planted::is(Bug::TopicLeaked);
        drop(state);
        let gone = last.then(|| map.cells.remove_entry(cell.topic()));
        drop(map);
        drop((waker, gone));
        publishers.wake();
        if let Some(turns) = turns {
            turns.wake();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
