//! The bus against topics as plain vectors.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};

use busline::bus::{
    Batch, InMemoryMessageBus, Message, MessageBus, Offered, Publisher, Received, Subscription,
    Topic,
};
use busline::limits::Window;

use super::bytes::Bytes;

/// Something done to the bus; an operation on a subscription that is not there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Everything that is due, up to so many bytes.
    Batch {
        subscription: u8,
        bytes: u8,
    },
    /// Publish if that loses nobody a message.
    Offer {
        topic: u8,
        bytes: u8,
    },
    /// The same for a batch, as far as that goes.
    OfferBatch(Several),
    Publish {
        topic: u8,
        bytes: u8,
    },
    PublishBatch(Several),
    Recv {
        subscription: u8,
    },
    Subscribe {
        topic: u8,
    },
    Unsubscribe {
        subscription: u8,
    },
}

/// So many messages, each half as long as the one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Several {
    pub(crate) topic: u8,
    pub(crate) bytes: u8,
    pub(crate) count: u8,
}

impl Several {
    fn read(topic: u8, bytes: &mut Bytes<'_>) -> Option<Self> {
        let (count, bytes) = (bytes.below(8)?, bytes.next()?);
        Some(Self {
            topic,
            bytes,
            count,
        })
    }
}

impl Op {
    /// The next operation of a fuzzer's bytes.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let kind = bytes.below(8)?;
        let a = bytes.next()?;
        Some(match kind {
            0 => Self::Batch {
                subscription: a,
                bytes: bytes.next()?,
            },
            1 => Self::Offer {
                topic: a,
                bytes: bytes.next()?,
            },
            2 => Self::Publish {
                topic: a,
                bytes: bytes.next()?,
            },
            3 => Self::Recv { subscription: a },
            4 => Self::Subscribe { topic: a },
            5 => Self::OfferBatch(Several::read(a, bytes)?),
            6 => Self::PublishBatch(Several::read(a, bytes)?),
            _ => Self::Unsubscribe { subscription: a },
        })
    }
}

/// The body of the fuzz target: two bytes of window, then operations.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (Some(messages), Some(window_bytes)) = (bytes.below(8), bytes.next()) else {
        return;
    };
    let ops: Vec<_> = std::iter::from_fn(|| Op::read(&mut bytes)).collect();
    run(usize::from(messages) + 1, usize::from(window_bytes), &ops);
}

/// Applies the operations to the bus and to the model, and compares all that can be seen.
pub(crate) fn run(messages: usize, bytes: usize, ops: &[Op]) {
    let mut world = World::new(messages, bytes);
    for op in ops {
        world.apply(*op);
        world.compare_counts();
    }
    world.subscriptions.clear();
    world.model.unsubscribe_all();
    world.compare_counts();
    assert_eq!(
        world.bus.counts().topics,
        0,
        "a topic without subscribers was left"
    );
}

const TOPICS: u8 = 3;
const SUBSCRIPTIONS_MAX: usize = 6;

struct World {
    bus: InMemoryMessageBus,
    publishers: Vec<Publisher>,
    subscriptions: Vec<Subscription>,
    model: Model,
    sent: u64,
}

impl World {
    fn new(messages: usize, bytes: usize) -> Self {
        let messages = NonZeroUsize::new(messages).expect("a window is not empty");
        let window = Window { messages, bytes };
        let bus = InMemoryMessageBus::new(window, usize::from(TOPICS));
        Self {
            publishers: (0..TOPICS).map(|n| bus.publisher(&topic(n))).collect(),
            bus,
            subscriptions: Vec::new(),
            model: Model {
                window,
                ..Model::default()
            },
            sent: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        let count = self.subscriptions.len();
        let pick = |n: u8| (count > 0).then(|| usize::from(n) % count);
        match op {
            Op::Batch {
                subscription,
                bytes,
            } => {
                if let Some(index) = pick(subscription) {
                    self.batch(index, usize::from(bytes));
                }
            }
            Op::Offer { topic, bytes } => self.offer(topic % TOPICS, usize::from(bytes)),
            Op::OfferBatch(several) => self.offer_batch(several),
            Op::PublishBatch(several) => self.publish_batch(several),
            Op::Publish { topic: n, bytes } => {
                let message = self.message(usize::from(bytes));
                let expected = self.model.publish(n % TOPICS, &message);
                let published = self.bus.publish(&topic(n % TOPICS), message.into());
                assert_eq!(published, expected);
            }
            Op::Recv { subscription } => {
                if let Some(index) = pick(subscription) {
                    self.recv(index);
                }
            }
            Op::Subscribe { topic: n } if count < SUBSCRIPTIONS_MAX => {
                let subscription = self.bus.subscribe(&topic(n % TOPICS));
                self.subscriptions
                    .push(subscription.expect("there is room for every topic"));
                self.model.subscribe(n % TOPICS);
            }
            Op::Subscribe { .. } => {}
            Op::Unsubscribe { subscription } => {
                if let Some(index) = pick(subscription) {
                    self.bus.unsubscribe(self.subscriptions.remove(index));
                    self.model.unsubscribe(index);
                }
            }
        }
    }

    /// A message of so many bytes that begins with its number, as far as it goes.
    fn message(&mut self, bytes: usize) -> Message {
        self.sent += 1;
        let mut payload = self.sent.to_le_bytes().to_vec();
        payload.resize(bytes, 0);
        Message::binary(payload)
    }

    fn offer(&mut self, n: u8, bytes: usize) {
        let message = self.message(bytes);
        let expected = match self.model.readers_of(n).count() {
            0 => Offered::NoSubscribers(message.clone().into()),
            _ if self.model.has_room(n, bytes) => {
                Offered::Published(self.model.publish(n, &message))
            }
            _ => Offered::Full(message.clone().into()),
        };
        let mut cx = Context::from_waker(Waker::noop());
        let offered = self.publishers[usize::from(n)].offer(&mut cx, message.into());
        assert_eq!(offered, expected);
    }

    /// One message at least.
    fn messages(&mut self, several: Several) -> Vec<Message> {
        let bytes = usize::from(several.bytes);
        let each = (0..several.count % 7 + 1).map(|n| bytes >> n);
        each.map(|bytes| self.message(bytes)).collect()
    }

    fn offer_batch(&mut self, several: Several) {
        let (n, messages) = (several.topic % TOPICS, self.messages(several));
        let mut expected = messages.clone();
        let has_readers = self.model.readers_of(n).count() > 0;
        while let Some(first) = expected.first()
            && has_readers
            && self.model.has_room(n, first.len())
        {
            self.model.publish(n, &expected.remove(0));
        }
        let mut cx = Context::from_waker(Waker::noop());
        let left = match self.publishers[usize::from(n)].offer(&mut cx, joined(messages)) {
            Offered::Full(left) => {
                assert!(has_readers, "a topic without subscribers is not full");
                left.messages().collect()
            }
            Offered::NoSubscribers(left) => {
                assert!(!has_readers, "the topic has subscribers");
                left.messages().collect()
            }
            Offered::Published(subscribers) => {
                assert_eq!(subscribers, self.model.readers_of(n).count());
                Vec::new()
            }
        };
        assert_eq!(left, expected);
    }

    fn publish_batch(&mut self, several: Several) {
        let (n, messages) = (several.topic % TOPICS, self.messages(several));
        let each = messages
            .iter()
            .map(|message| self.model.publish(n, message));
        let expected = each.last().unwrap_or(0);
        let published = self.publishers[usize::from(n)].publish(joined(messages));
        assert_eq!(published, expected);
    }

    fn recv(&mut self, index: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let pending = self.model.pending(index);
        assert_eq!(self.subscriptions[index].pending(), pending);
        let received = match self.subscriptions[index].poll_recv(&mut cx) {
            Poll::Ready(received) => Some(received),
            Poll::Pending => None,
        };
        let lost = self.model.lost(index);
        let expected = if lost > 0 {
            self.model.skip_lost(index);
            Some(Received::Lagged(lost))
        } else {
            self.model.read(index).map(Received::Message)
        };
        assert_eq!(received, expected);
    }

    fn batch(&mut self, index: usize, bytes_max: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut batch = Vec::new();
        let sink = |read: Batch| batch.extend(read.messages());
        let polled = self.subscriptions[index].poll_batches(&mut cx, bytes_max, sink);
        if self.model.is_caught_up(index) {
            assert_eq!((polled, batch), (Poll::Pending, vec![]));
            return;
        }
        assert_eq!(polled, Poll::Ready(self.model.lost(index)));
        self.model.skip_lost(index);
        assert!(!batch.is_empty(), "a batch has at least one message");
        let mut total = 0;
        for (n, message) in batch.iter().enumerate() {
            total += message.len();
            assert!(n == 0 || total <= bytes_max, "more bytes than asked for");
            assert_eq!(Some(message), self.model.read(index).as_ref());
        }
        if let Some(next) = self.model.peek(index) {
            assert!(
                total + next.len() > bytes_max,
                "the next one would have fitted"
            );
        }
    }

    fn compare_counts(&self) {
        let counts = self.bus.counts();
        let model = &self.model;
        assert_eq!(counts.subscriptions, model.readers.len());
        assert_eq!(counts.topics, model.topics_with_readers());
        assert_eq!(counts.bytes, model.retained_bytes());
        let messages = counts.messages;
        assert_eq!(messages.published, model.published);
        assert_eq!(messages.owed, model.owed);
        assert_eq!(messages.delivered, model.delivered);
        assert_eq!(messages.lost_unsubscribed, model.unsubscribed);
        assert_eq!(messages.pending, model.all_pending());
        let lost = model.lagged + (0..model.readers.len()).map(|n| model.lost(n)).sum::<u64>();
        assert_eq!(
            messages.lost_lagged, lost,
            "losses are counted when they happen"
        );
        let done = messages.delivered + messages.lost_lagged + messages.lost_unsubscribed;
        assert_eq!(messages.owed, done + messages.pending);
    }
}

/// Every message of every topic, and how far each reader is.
#[derive(Default)]
struct Model {
    window: Window,
    topics: BTreeMap<u8, Vec<Message>>,
    readers: Vec<Reader>,
    published: u64,
    owed: u64,
    delivered: u64,
    /// Lost messages that their reader was told of, or left with.
    lagged: u64,
    unsubscribed: u64,
}

#[derive(Clone, Copy)]
struct Reader {
    topic: u8,
    next: usize,
}

impl Model {
    fn log(&self, topic: u8) -> &[Message] {
        self.topics.get(&topic).map_or(&[], Vec::as_slice)
    }

    fn readers_of(&self, topic: u8) -> impl Iterator<Item = &Reader> {
        self.readers
            .iter()
            .filter(move |reader| reader.topic == topic)
    }

    fn publish(&mut self, topic: u8, message: &Message) -> usize {
        let readers = self.readers_of(topic).count();
        self.topics.entry(topic).or_default().push(message.clone());
        self.published += 1;
        self.owed += readers as u64;
        readers
    }

    fn subscribe(&mut self, topic: u8) {
        let next = self.log(topic).len();
        self.readers.push(Reader { topic, next });
    }

    fn unsubscribe(&mut self, index: usize) {
        self.lagged += self.lost(index);
        self.unsubscribed += self.pending(index);
        self.readers.remove(index);
    }

    fn unsubscribe_all(&mut self) {
        while !self.readers.is_empty() {
            self.unsubscribe(0);
        }
    }

    /// Index of the oldest message inside of the window: the longest end of the log that keeps to
    /// both bounds, and the newest message in any case.
    fn floor(&self, topic: u8) -> usize {
        let log = self.log(topic);
        let (mut floor, mut bytes) = (log.len(), 0);
        while let Some(message) = floor.checked_sub(1).and_then(|n| log.get(n)) {
            bytes += message.len();
            let newest = floor == log.len();
            let fits = log.len() - floor < self.window.messages.get() && bytes <= self.window.bytes;
            if !newest && !fits {
                break;
            }
            floor -= 1;
        }
        floor
    }

    /// Messages of this reader that fell out of the window, and that it was not told of.
    fn lost(&self, index: usize) -> u64 {
        let reader = self.readers[index];
        self.floor(reader.topic).saturating_sub(reader.next) as u64
    }

    fn skip_lost(&mut self, index: usize) {
        let lost = self.lost(index);
        self.lagged += lost;
        self.readers[index].next += usize::try_from(lost).expect("a small number");
    }

    fn peek(&self, index: usize) -> Option<&Message> {
        let reader = self.readers[index];
        self.log(reader.topic).get(reader.next)
    }

    fn read(&mut self, index: usize) -> Option<Message> {
        let message = self.peek(index)?.clone();
        self.readers[index].next += 1;
        self.delivered += 1;
        Some(message)
    }

    fn is_caught_up(&self, index: usize) -> bool {
        self.peek(index).is_none()
    }

    fn pending(&self, index: usize) -> u64 {
        let reader = self.readers[index];
        let position = reader.next.max(self.floor(reader.topic));
        (self.log(reader.topic).len() - position) as u64
    }

    fn all_pending(&self) -> u64 {
        (0..self.readers.len())
            .map(|index| self.pending(index))
            .sum()
    }

    /// What somebody has not read and still can.
    fn retained(&self, topic: u8) -> &[Message] {
        let oldest = self.readers_of(topic).map(|reader| reader.next).min();
        match oldest {
            Some(next) => &self.log(topic)[next.max(self.floor(topic))..],
            None => &[],
        }
    }

    fn retained_bytes(&self) -> usize {
        let topics = self.topics.keys().map(|topic| self.retained(*topic));
        topics.flatten().map(Message::len).sum()
    }

    fn has_room(&self, topic: u8, bytes: usize) -> bool {
        let retained = self.retained(topic);
        let used: usize = retained.iter().map(Message::len).sum();
        let fits = retained.len() < self.window.messages.get() && used + bytes <= self.window.bytes;
        retained.is_empty() || fits
    }

    fn topics_with_readers(&self) -> usize {
        let mut topics: Vec<_> = self.readers.iter().map(|reader| reader.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.len()
    }
}

fn topic(n: u8) -> Topic {
    format!("topic-{n}").parse().expect("a valid name")
}

fn joined(messages: Vec<Message>) -> Batch {
    Batch::join(messages).expect("one at least")
}
