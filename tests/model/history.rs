//! Histories of the bus, and recovery, against a list of all messages ever published.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use busline::bus::{
    Batch, Histories, InMemoryMessageBus, Joined, Joining, Maker, Message, Moment, Reading,
    Received, Room, Since, Start, Subscription, Topic, Why,
};
use busline::limits::{HistoryLimits, Retention, Window};
use busline::rt::Instant;

const ROOMS: u8 = 2;
const READERS_MAX: usize = 5;
const MESSAGES: usize = 6;
const TTL: u64 = 4;

/// Something done to the bus; an operation on a reader that is not there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Read all that is due up to so many bytes, or one batch.
    Batches { reader: u8, bytes: Option<u8> },
    /// Free what is over.
    Expire,
    /// Subscribe, so many messages behind if the reader recovers.
    Join {
        room: u8,
        behind: Option<u8>,
        recovers: bool,
    },
    /// Read the newest message.
    Latest { reader: u8 },
    /// Unsubscribe.
    Leave { reader: u8 },
    /// Let a second pass.
    Pass,
    /// Publish so many messages at once, maybe live alone.
    Publish { room: u8, count: u8, is_live: bool },
    /// Receive one message.
    Recv { reader: u8 },
    /// Remove all messages of a room.
    Remove { room: u8 },
}

/// Applies the operations to the bus and to the list, and compares all that can be seen.
pub(crate) fn run(window: usize, ops: &[Op]) {
    let mut world = World::new(window);
    for op in ops {
        world.apply(*op);
        world.compare();
    }
    while !world.readers.is_empty() {
        world.leave(0);
        world.compare();
    }
    assert_eq!(world.bus.counts().topics, 0);
}

/// A message ever published in a room.
struct Said {
    text: String,
    /// `None` for a message that was published live alone.
    offset: Option<u64>,
    at: u64,
    is_removed: bool,
}

/// A room: all its messages, and how many of them its present topic has seen.
#[derive(Default)]
struct List {
    said: Vec<Said>,
    top: u64,
    /// The index of the first message of the present topic.
    first: usize,
    /// The epoch, once it was told.
    epoch: Option<busline::bus::Epoch>,
}

/// A reader, and the messages that it is owed, by their indices.
struct Reader {
    room: u8,
    subscription: Subscription,
    owed: Vec<usize>,
    /// The index of the first message after it joined.
    joined: usize,
    catches_up: bool,
    recovers: bool,
}

#[derive(Default)]
struct Counts {
    owed: u64,
    delivered: u64,
    lagged: u64,
    superseded: u64,
    unsubscribed: u64,
}

struct World {
    bus: InMemoryMessageBus,
    seconds: Arc<AtomicU64>,
    window: usize,
    lists: BTreeMap<u8, List>,
    readers: Vec<Reader>,
    counts: Counts,
    sent: u64,
}

fn topic(room: u8) -> Topic {
    let kind = "chat".parse().expect("a valid name");
    Topic::from_service_to_ws(Room::new(&kind, &room.to_string()).expect("a valid key"))
}

impl List {
    /// Whether the history serves a message.
    fn serves(&self, index: usize, now: u64) -> bool {
        let said = &self.said[index];
        let is_new = |offset| self.top < offset + MESSAGES as u64;
        said.offset.is_some_and(is_new) && !said.is_removed && now < said.at + TTL
    }

    fn index(&self, offset: u64) -> Option<usize> {
        let mut all = self.said.iter();
        all.position(|said| said.offset == Some(offset))
    }
}

impl Reader {
    /// The index of the oldest message in the window.
    fn window_start(&self, list: &List, window: usize) -> usize {
        list.said.len().saturating_sub(window).max(list.first)
    }

    fn is_backlog(&self, index: usize) -> bool {
        index < self.joined
    }
}

impl World {
    fn new(window: usize) -> Self {
        let seconds = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&seconds);
        let epochs = AtomicU64::new(1);
        let messages = NonZeroUsize::new(MESSAGES).expect("not zero");
        let retention = Retention {
            messages,
            bytes: 1 << 20,
            ttl: Duration::from_secs(TTL),
            recovery_max: None,
        };
        let histories = Histories {
            kinds: [("chat".parse().expect("a valid name"), retention)].into(),
            limits: HistoryLimits::default(),
            now: Arc::new(move || {
                let since = Duration::from_secs(clock.load(Ordering::Relaxed));
                Moment {
                    at: Instant::from_start(since),
                    wall: SystemTime::UNIX_EPOCH + since,
                }
            }),
            random: Arc::new(move || epochs.fetch_add(1, Ordering::Relaxed)),
        };
        let of = Window {
            messages: NonZeroUsize::new(window).expect("not zero"),
            ..Window::default()
        };
        Self {
            bus: InMemoryMessageBus::with_histories(of, BTreeMap::new(), 8, histories),
            seconds,
            window,
            lists: (0..ROOMS).map(|room| (room, List::default())).collect(),
            readers: Vec::new(),
            counts: Counts::default(),
            sent: 0,
        }
    }

    fn now(&self) -> u64 {
        self.seconds.load(Ordering::Relaxed)
    }

    fn apply(&mut self, op: Op) {
        let count = self.readers.len();
        let pick = |n: u8| (count > 0).then(|| usize::from(n) % count);
        match op {
            Op::Batches { reader, bytes } => {
                if let Some(index) = pick(reader) {
                    self.batches(index, bytes);
                }
            }
            Op::Expire => drop(self.bus.expire(2)),
            Op::Join {
                room,
                behind,
                recovers,
            } if count < READERS_MAX => self.join(room % ROOMS, behind, recovers),
            Op::Join { .. } => {}
            Op::Latest { reader } => {
                if let Some(index) = pick(reader) {
                    self.latest(index);
                }
            }
            Op::Leave { reader } => {
                if let Some(index) = pick(reader) {
                    self.leave(index);
                }
            }
            Op::Pass => drop(self.seconds.fetch_add(1, Ordering::Relaxed)),
            Op::Publish {
                room,
                count,
                is_live,
            } => self.publish(room % ROOMS, count % 3 + 1, is_live),
            Op::Recv { reader } => {
                if let Some(index) = pick(reader) {
                    self.recv(index);
                }
            }
            Op::Remove { room } => {
                let room = room % ROOMS;
                let position = self.bus.remove_history(&topic(room));
                let list = self.lists.get_mut(&room).expect("it is there");
                assert_eq!(position.map(|it| it.offset), Some(list.top));
                list.said.iter_mut().for_each(|said| said.is_removed = true);
            }
        }
    }

    fn publish(&mut self, room: u8, count: u8, is_live: bool) {
        let now = self.now();
        let list = self.lists.get_mut(&room).expect("it is there");
        let mut texts = Vec::new();
        let readers = self.readers.iter_mut().filter(|reader| reader.room == room);
        let mut readers: Vec<_> = readers.collect();
        for _ in 0..count {
            self.sent += 1;
            texts.push(self.sent.to_string());
            list.top += u64::from(!is_live);
            readers
                .iter_mut()
                .for_each(|reader| reader.owed.push(list.said.len()));
            list.said.push(Said {
                text: self.sent.to_string(),
                offset: (!is_live).then_some(list.top),
                at: now,
                is_removed: false,
            });
        }
        self.counts.owed += u64::from(count) * readers.len() as u64;
        let batch = Batch::join(texts.iter().map(Message::text)).expect("one at least");
        let batch = if is_live { batch.live() } else { batch };
        let published = self.bus.publish_by(&topic(room), batch, &Maker::default());
        assert_eq!(published.subscribers, readers.len());
        match published.position {
            Some(position) => {
                assert_eq!((position.offset, is_live), (list.top, false));
                assert_eq!(*list.epoch.get_or_insert(position.epoch), position.epoch);
            }
            None => assert!(is_live),
        }
    }

    fn join(&mut self, room: u8, behind: Option<u8>, recovers: bool) {
        let now = self.now();
        let is_first = !self.readers.iter().any(|reader| reader.room == room);
        let list = self.lists.get_mut(&room).expect("it is there");
        if is_first {
            list.first = list.said.len();
        }
        let since = behind.map(|behind| (list.top + 1).saturating_sub(u64::from(behind % 9)));
        let start = since.map_or(Start::Next, |offset| {
            let epoch = list.epoch;
            Start::After(Since { epoch, offset })
        });
        let joining = Joining {
            is_provisional: false,
            start,
            recovers,
            maker: Maker::default(),
        };
        let joined = self.bus.subscribe_since(&topic(room), &joining);
        let (subscription, joined) = joined.expect("there is room");
        let mut owed = Vec::new();
        let position = match joined {
            Joined::Present { position, messages } => {
                assert_eq!((since, messages), (None, 0));
                position
            }
            Joined::Recovered { position, messages } => {
                let since = since.expect("it asked");
                owed.extend((since + 1..=list.top).filter_map(|offset| list.index(offset)));
                assert!(owed.iter().all(|index| list.serves(*index, now)), "true");
                let number = owed.len() as u64;
                assert_eq!((messages, number), (number, list.top - since));
                position
            }
            Joined::NotRecovered { why, position } => {
                let since = since.expect("it asked");
                let missed = since + 1..=list.top;
                let mut missed = missed.filter_map(|offset| list.index(offset));
                let is_lost = missed.any(|index| !list.serves(index, now));
                assert_eq!(is_lost, why != Why::Ahead, "{why}");
                assert_eq!(since > list.top, why == Why::Ahead, "{why}");
                position
            }
            Joined::Unrecorded => panic!("it has a history"),
        };
        assert_eq!(position.offset, list.top);
        assert_eq!(*list.epoch.get_or_insert(position.epoch), position.epoch);
        self.counts.owed += owed.len() as u64;
        self.readers.push(Reader {
            room,
            subscription,
            catches_up: !owed.is_empty(),
            owed,
            joined: list.said.len(),
            recovers,
        });
    }

    fn leave(&mut self, index: usize) {
        let reader = self.readers.remove(index);
        let list = &self.lists[&reader.room];
        let start = reader.window_start(list, self.window);
        let reads_gap = reader.recovers || reader.catches_up;
        let is_gap = |index: &&usize| **index < start && !reader.is_backlog(**index);
        let gap = reader.owed.iter().filter(is_gap).count() as u64;
        let lagged = if reads_gap { 0 } else { gap };
        self.counts.lagged += lagged;
        self.counts.unsubscribed += reader.owed.len() as u64 - lagged;
    }

    /// Whether the reader can still receive the message.
    fn has(&self, reader: &Reader, index: usize) -> bool {
        let list = &self.lists[&reader.room];
        let served = list.serves(index, self.now());
        if reader.is_backlog(index) {
            return served;
        }
        let in_window = index >= reader.window_start(list, self.window);
        in_window || (served && (reader.recovers || reader.catches_up))
    }

    /// The number of messages that the reader has lost before the next one.
    fn lost(&self, index: usize) -> usize {
        let reader = &self.readers[index];
        let has = |index: &usize| self.has(reader, *index);
        let next = reader.owed.iter().position(has);
        next.unwrap_or(reader.owed.len())
    }

    /// Takes the next owed messages.
    fn take(&mut self, index: usize, count: usize) -> Vec<usize> {
        let reader = &mut self.readers[index];
        let taken = reader.owed.drain(..count).collect();
        let start = reader.window_start(&self.lists[&reader.room], self.window);
        let next = reader.owed.first();
        let is_past = next.is_some_and(|next| *next < start.max(reader.joined));
        let is_backlog = next.is_some_and(|next| reader.is_backlog(*next));
        let is_gap = is_past && next.is_some_and(|next| *next < start);
        reader.catches_up &= is_backlog || is_gap;
        taken
    }

    fn lose(&mut self, index: usize) -> u64 {
        let lost = self.lost(index);
        self.take(index, lost);
        self.counts.lagged += lost as u64;
        lost as u64
    }

    fn deliver(&mut self, index: usize, message: &Message) {
        let taken = self.take(index, 1);
        self.counts.delivered += 1;
        let said = &self.lists[&self.readers[index].room].said[taken[0]];
        assert_eq!(message.as_text(), Some(said.text.as_str()));
        assert_eq!(message.offset(), said.offset);
    }

    fn recv(&mut self, index: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = self.readers[index].subscription.poll_recv(&mut cx);
        let lost = self.lose(index);
        match polled {
            Poll::Pending => assert_eq!((lost, self.readers[index].owed.len()), (0, 0)),
            Poll::Ready(Received::Lagged(told)) => assert_eq!(told, lost),
            Poll::Ready(Received::Message(message)) => {
                assert_eq!(lost, 0);
                self.deliver(index, &message);
            }
        }
    }

    fn batches(&mut self, index: usize, bytes: Option<u8>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        let bytes = bytes.map_or(usize::MAX, usize::from);
        let sink = |batch: Batch| read.extend(batch.messages());
        let subscription = &mut self.readers[index].subscription;
        let polled = subscription.poll_batches(&mut cx, bytes, sink);
        let lost = self.lose(index);
        let Poll::Ready(told) = polled else {
            assert_eq!((lost, self.readers[index].owed.len()), (0, 0));
            return;
        };
        assert_eq!(told, lost);
        let more = !self.readers[index].owed.is_empty();
        assert_eq!(read.is_empty(), !more, "one at least");
        for message in read {
            assert_eq!(self.lost(index), 0, "a loss is told in its place");
            self.deliver(index, &message);
        }
    }

    fn latest(&mut self, index: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = self.readers[index].subscription.poll_latest(&mut cx);
        let reader = &self.readers[index];
        let list = &self.lists[&reader.room];
        let start = reader.window_start(list, self.window);
        let is_gap = |at: &&usize| **at < start && !reader.is_backlog(**at);
        let gap = reader.owed.iter().filter(is_gap).count() as u64;
        let newest = reader.owed.last().copied();
        let newest = newest.filter(|newest| self.has(reader, *newest));
        let Poll::Ready((missed, message)) = polled else {
            assert_eq!(newest, None);
            return;
        };
        let skipped = reader.owed.len() - 1;
        assert_eq!(missed, skipped as u64);
        self.counts.lagged += gap;
        self.counts.superseded += skipped as u64 - gap;
        self.take(index, skipped);
        self.deliver(index, &message);
    }

    fn compare(&self) {
        let messages = self.bus.counts().messages;
        let counts = &self.counts;
        assert_eq!(messages.owed, counts.owed);
        assert_eq!(messages.delivered, counts.delivered);
        assert_eq!(messages.lost_superseded, counts.superseded);
        assert_eq!(messages.lost_unsubscribed, counts.unsubscribed);
        assert_eq!(
            messages.lost_lagged, counts.lagged,
            "a loss is counted once"
        );
        let pending: usize = self.readers.iter().map(|reader| reader.owed.len()).sum();
        assert_eq!(messages.pending, pending as u64);
        for (room, list) in &self.lists {
            self.compare_page(*room, list);
        }
        for reader in &self.readers {
            assert_eq!(reader.subscription.catches_up(), reader.catches_up);
        }
    }

    fn compare_page(&self, room: u8, list: &List) {
        let reading = Reading {
            since: None,
            limit: 100,
            reverse: false,
        };
        let page = self.bus.history(&topic(room), &reading).expect("a page");
        let read = page.messages.iter().map(|it| it.message.as_text());
        let served = (0..list.said.len()).filter(|index| list.serves(*index, self.now()));
        let served = served.map(|index| Some(list.said[index].text.as_str()));
        assert!(read.eq(served), "what is left is read");
        assert_eq!(page.position.offset, list.top);
    }
}
