//! The message bus in this process's memory.
//!
//! Lock order: the map of topics before the log of one topic. No lock is held across a wake.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

use super::log::{Log, TopicCounts};
use super::message::Message;
use super::subscription::{Publisher, Received, Seat, Subscription};
use super::topic::Topic;
use super::{MessageBus, SubscribeError};
use crate::limits::Window;
use crate::sync::{Arc, Mutex, Place, Waiters, Wakers};

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

impl InMemoryMessageBus {
    /// A bus whose topics keep `window` each, and of which at most `topics_max` exist at once.
    pub fn new(window: Window, topics_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                window,
                topics_max,
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
        for cell in map.cells.values() {
            let state = cell.0.lock();
            counts.subscriptions += state.log.readers();
            counts.bytes += state.log.bytes();
            counts.messages.add(&state.log.counts());
        }
        counts
    }

    /// What one topic has done since it got its first subscriber; `None` if it has none.
    pub fn topic_counts(&self, topic: &Topic) -> Option<TopicCounts> {
        let cell = self.shared.cell(topic)?;
        let counts = cell.0.lock().log.counts();
        Some(counts)
    }
}

impl MessageBus for InMemoryMessageBus {
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError> {
        let (cell, seat) = self.shared.subscribe(topic)?;
        let shared = Arc::clone(&self.shared);
        Ok(Subscription::new(shared, topic.clone(), cell, seat))
    }

    fn publish(&self, topic: &Topic, message: Message) -> usize {
        let cell = self.shared.cell(topic);
        self.shared
            .count(cell.map_or(0, |cell| cell.publish(message)))
    }

    fn publisher(&self, topic: &Topic) -> Publisher {
        Publisher::new(Arc::clone(&self.shared), topic.clone())
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    window: Window,
    topics_max: usize,
    map: Mutex<Map>,
}

#[derive(Debug, Default)]
struct Map {
    cells: HashMap<Topic, Arc<Cell>>,
    /// What the topics had done that are gone, and what was published on topics that are not there.
    retired: TopicCounts,
}

impl Shared {
    pub(super) fn cell(&self, topic: &Topic) -> Option<Arc<Cell>> {
        self.map.lock().cells.get(topic).cloned()
    }

    /// Counts a message published to this many subscribers: a topic counts its own, but there is no
    /// topic where there is no subscriber.
    pub(super) fn count(&self, subscribers: usize) -> usize {
        if subscribers == 0 {
            self.map.lock().retired.published += 1;
        }
        subscribers
    }

    /// Attaches a reader, under the map's lock, so that it is never attached to a topic that
    /// another thread is taking out of the map.
    fn subscribe(&self, topic: &Topic) -> Result<(Arc<Cell>, Seat), SubscribeError> {
        let mut map = self.map.lock();
        let cell = match map.cells.get(topic) {
            Some(cell) => Arc::clone(cell),
            None if map.cells.len() >= self.topics_max => {
                let max = self.topics_max;
                return Err(SubscribeError::TooManyTopics { max });
            }
            None => {
                let cell = Arc::new(Cell::new(self.window));
                map.cells.insert(topic.clone(), Arc::clone(&cell));
                cell
            }
        };
        let seat = cell.0.lock().enter();
        drop(map);
        Ok((cell, seat))
    }

    pub(super) fn unsubscribe(&self, topic: &Topic, cell: &Arc<Cell>, seat: Seat) {
        let mut map = self.map.lock();
        let mut state = cell.0.lock();
        let waker = state.leave(seat);
        let publishers = state.unpark_publishers();
        let last = state.log.readers() == 0;
        if last {
            map.retired.add(&state.log.counts());
        }
        drop(state);
        let gone = last.then(|| map.cells.remove(topic));
        drop(map);
        drop((waker, gone));
        publishers.wake();
    }
}

/// One topic: its log and who waits on it.
#[derive(Debug)]
pub(super) struct Cell(Mutex<State>);

#[derive(Debug)]
struct State {
    log: Log,
    subscribers: Waiters,
    /// Publishers that wait for room.
    publishers: Waiters,
}

impl State {
    fn enter(&mut self) -> Seat {
        Seat {
            cursor: self.log.attach(),
            place: self.subscribers.enter(),
        }
    }

    /// Appends to the log of a topic that is still there, and takes its subscribers' wakers out.
    fn append(&mut self, message: Message) -> Wakers {
        if self.log.readers() == 0 {
            return Wakers::default();
        }
        self.log.append(message);
        self.subscribers.unpark()
    }

    /// Takes out the publishers that wait, if waiting any longer may be needless.
    fn unpark_publishers(&mut self) -> Wakers {
        // Without readers the log is empty, and has room.
        if self.log.has_room(0) {
            self.publishers.unpark()
        } else {
            Wakers::default()
        }
    }

    #[must_use]
    fn leave(&mut self, seat: Seat) -> Option<Waker> {
        self.log.detach(seat.cursor);
        self.subscribers.leave(seat.place)
    }
}

impl Cell {
    fn new(window: Window) -> Self {
        Self(Mutex::new(State {
            log: Log::new(window),
            subscribers: Waiters::default(),
            publishers: Waiters::default(),
        }))
    }

    /// Publishes to the subscribers there are, and returns how many that is.
    ///
    /// None are left if the topic was taken out of the map meanwhile: then nothing is counted here.
    fn publish(&self, message: Message) -> usize {
        let mut state = self.0.lock();
        let subscribers = state.log.readers();
        let wakers = state.append(message);
        drop(state);
        wakers.wake();
        subscribers
    }

    /// Publishes if that loses nobody a message, else parks the task at `place`, or at a new place
    /// if it has none.
    pub(super) fn offer(
        &self,
        message: &Message,
        place: Option<Place>,
        waker: &Waker,
    ) -> Result<usize, Place> {
        let mut state = self.0.lock();
        let subscribers = state.log.readers();
        if !state.log.has_room(message.len()) {
            let place = place.unwrap_or_else(|| state.publishers.enter());
            let replaced = state.publishers.park(&place, waker);
            drop(state);
            drop(replaced);
            return Err(place);
        }
        let wakers = state.append(message.clone());
        let left = place.and_then(|place| state.publishers.leave(place));
        drop(state);
        drop(left);
        wakers.wake();
        Ok(subscribers)
    }

    /// A publisher stops waiting.
    pub(super) fn leave(&self, place: Place) {
        let left = self.0.lock().publishers.leave(place);
        drop(left);
    }

    /// Takes the next message or loss, or parks the task.
    pub(super) fn poll_recv(&self, seat: &mut Seat, cx: &mut Context<'_>) -> Poll<Received> {
        self.poll_with(&seat.place, cx, |log| log.next(&mut seat.cursor))
    }

    /// Takes all that is due, or parks the task.
    pub(super) fn poll_batch(
        &self,
        seat: &mut Seat,
        cx: &mut Context<'_>,
        bytes_max: usize,
        into: &mut Vec<Message>,
    ) -> Poll<u64> {
        self.poll_with(&seat.place, cx, |log| {
            log.is_ready(&seat.cursor)
                .then(|| log.read(&mut seat.cursor, bytes_max, into))
        })
    }

    fn poll_with<T>(
        &self,
        place: &Place,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.0.lock();
        let Some(item) = read(&mut state.log) else {
            let replaced = state.subscribers.park(place, cx.waker());
            drop(state);
            drop(replaced);
            return Poll::Pending;
        };
        let publishers = state.unpark_publishers();
        drop(state);
        publishers.wake();
        Poll::Ready(item)
    }

    pub(super) fn unread(&self, seat: &Seat) -> u64 {
        self.0.lock().log.unread(&seat.cursor)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::Wake;

    use super::super::contract;
    use super::*;
    use crate::limits::Limits;
    use crate::sync::{AtomicU64, Ordering};

    #[test]
    fn the_bus_keeps_its_contract() {
        contract::check(&|window, topics| InMemoryMessageBus::new(window, topics));
    }

    #[test]
    fn a_topic_counts_for_itself_while_it_has_subscribers() {
        let limits = Limits::default();
        let bus = InMemoryMessageBus::new(limits.window, limits.topics);
        let topic: Topic = "t".parse().expect("a valid name");
        assert_eq!(bus.topic_counts(&topic), None);
        let readers = [(); 2].map(|()| bus.subscribe(&topic));
        bus.publish(&topic, "x".into());
        let counts = bus.topic_counts(&topic).expect("it has subscribers");
        assert_eq!((counts.published, counts.owed, counts.pending), (1, 2, 2));
        assert_eq!(bus.counts().messages, counts);
        drop(readers);
        assert_eq!(bus.topic_counts(&topic), None);
    }

    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_publisher_that_waits_is_woken_by_a_read_and_by_the_last_reader_that_leaves() {
        for reads in [true, false] {
            let window = Window {
                messages: std::num::NonZeroUsize::MIN,
                ..Window::default()
            };
            let bus = InMemoryMessageBus::new(window, 1);
            let topic: Topic = "t".parse().expect("a valid name");
            let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
            let woken = Arc::new(Woken(AtomicU64::new(0)));
            let waker = Waker::from(Arc::clone(&woken));
            let mut cx = Context::from_waker(&waker);
            let mut publisher = bus.publisher(&topic);
            let message = Message::text("x");
            assert_eq!(publisher.poll_publish(&mut cx, &message), Poll::Ready(1));
            assert_eq!(publisher.poll_publish(&mut cx, &message), Poll::Pending);
            let (reader, subscribers) = if reads {
                assert!(reader.poll_recv(&mut cx).is_ready());
                (Some(reader), 1)
            } else {
                drop(reader);
                (None, 0)
            };
            assert_eq!(woken.0.load(Ordering::SeqCst), 1);
            let published = publisher.poll_publish(&mut cx, &message);
            assert_eq!(published, Poll::Ready(subscribers));
            drop(reader);
        }
    }

    #[test]
    fn a_publisher_that_gives_up_leaves_no_place_behind() {
        let limits = Limits::default();
        let bus = InMemoryMessageBus::new(limits.window, limits.topics);
        let topic: Topic = "t".parse().expect("a valid name");
        let reader = bus.subscribe(&topic).expect("there is room for the topic");
        let mut cx = Context::from_waker(Waker::noop());
        let mut publisher = bus.publisher(&topic);
        let message = Message::text("x");
        for _ in 0..limits.window.messages.get() {
            assert!(publisher.poll_publish(&mut cx, &message).is_ready());
        }
        assert!(publisher.poll_publish(&mut cx, &message).is_pending());
        let cell = bus.shared.cell(&topic).expect("it has a subscriber");
        assert_eq!(cell.0.lock().publishers.len(), 1);
        drop(publisher);
        assert_eq!(cell.0.lock().publishers.len(), 0);
        drop(reader);
        assert_eq!(cell.0.lock().subscribers.len(), 0);
    }
}
