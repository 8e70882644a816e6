//! The messages and the counts of a log, compared between batches and single messages.

use std::num::NonZeroUsize;

use super::*;
use crate::bus::message::Message;
use crate::bus::origin::{Generation, Origin};

const ALL: Amount = Amount::Bytes(usize::MAX);

/// A log and the number of its readers.
struct Topic {
    log: Log,
    readers: usize,
}

impl Topic {
    fn attach(&mut self) -> Cursor {
        self.readers += 1;
        self.log.attach()
    }

    fn detach(&mut self, cursor: Cursor) {
        self.readers -= 1;
        self.log.detach(&cursor);
    }

    fn append(&mut self, batch: impl Into<Batch>) {
        self.log.append(batch.into(), self.readers);
    }

    fn append_each(&mut self, numbers: std::ops::Range<u32>) {
        numbers.for_each(|n| self.append(n.to_string()));
    }

    /// Reads, and returns the number of lost messages and the texts of the messages.
    fn read(&mut self, cursor: &mut Cursor, amount: Amount) -> (u64, Vec<String>) {
        let mut read = Vec::new();
        let lost = self.log.read(cursor, amount, |batch| read.push(batch));
        (lost, read.iter().flat_map(texts_of).collect())
    }

    /// The offset of the next message, the counts, the room, and the kept messages and bytes.
    fn status(&self) -> (u64, TopicCounts, usize, [usize; 2]) {
        let kept = [self.log.messages(), self.log.bytes()];
        (self.log.tail(), self.log.counts(), self.log.room(), kept)
    }
}

fn log(messages: usize, bytes: usize) -> Topic {
    let messages = NonZeroUsize::new(messages).expect("not zero");
    Topic {
        log: Log::of(Window { messages, bytes }, 0),
        readers: 0,
    }
}

fn texts_of(batch: &Batch) -> Vec<String> {
    let text = |message: Message| message.as_text().expect("it is a text").to_owned();
    batch.messages().map(text).collect()
}

/// Joins texts in one batch; `None` without texts.
fn joined(texts: &[String]) -> Option<Batch> {
    Batch::join(texts.iter().map(Message::text))
}

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_full_window_loses_nothing_and_one_more_loses_the_oldest() {
    let mut log = log(4, 1000);
    let mut cursor = log.attach();
    log.append_each(0..4);
    assert_eq!(log.log.counts().lost_lagged, 0);
    log.append("4");
    assert_eq!(log.log.counts().lost_lagged, 1);
    assert_eq!(log.read(&mut cursor, ALL), (1, texts(1..5)));
    assert_eq!(log.read(&mut cursor, ALL), (0, vec![]));
}

#[test]
fn the_byte_bound_evicts_and_the_newest_message_always_stays() {
    let mut log = log(100, 10);
    let mut cursor = log.attach();
    log.append("12345");
    log.append("67890");
    assert_eq!(log.log.counts().lost_lagged, 0, "exactly the bound fits");
    log.append("x");
    assert_eq!(log.log.counts().lost_lagged, 1);
    log.append("far more than ten");
    assert_eq!(log.log.counts().lost_lagged, 3);
    let (lost, texts) = log.read(&mut cursor, ALL);
    assert_eq!((lost, texts.len()), (3, 1));
}

#[test]
fn room_ends_exactly_where_a_message_would_be_lost() {
    let mut log = log(2, 10);
    assert!(log.log.has_room(11), "an empty log takes any one message");
    let mut cursor = log.attach();
    log.append("12345");
    assert!(log.log.has_room(5));
    assert!(!log.log.has_room(6));
    log.append("12345");
    assert!(!log.log.has_room(0), "the count is full");
    log.read(&mut cursor, ALL);
    assert!(log.log.has_room(10));
}

#[test]
fn what_everybody_has_read_is_freed_at_once() {
    let mut log = log(256, 1 << 20);
    let mut fast = log.attach();
    let mut slow = log.attach();
    log.append_each(0..200);
    log.read(&mut fast, ALL);
    assert_eq!(log.log.entries.len(), 200, "slow has read nothing");
    let first_100 = 10 + 90 * 2;
    assert_eq!(
        log.read(&mut slow, Amount::Bytes(first_100)),
        (0, texts(0..100))
    );
    assert_eq!(log.log.entries.len(), 100);
    log.detach(slow);
    assert_eq!((log.log.entries.len(), log.log.bytes()), (0, 0));
    assert_eq!(
        log.log.entries.capacity(),
        0,
        "the burst's memory is given back"
    );
    assert_eq!(log.log.counts().lost_unsubscribed, 100);
}

#[test]
fn the_memory_of_a_few_messages_is_kept_and_that_of_a_burst_is_not() {
    for (messages, kept) in [(16, KEPT), (17, 0)] {
        let mut log = log(256, 1 << 20);
        let mut cursor = log.attach();
        log.append_each(0..messages);
        log.read(&mut cursor, ALL);
        assert_eq!(log.log.entries.capacity(), kept, "{messages} messages");
    }
}

#[test]
fn a_read_stops_at_its_limits_but_takes_at_least_one() {
    let mut log = log(10, 1000);
    let mut cursor = log.attach();
    log.append_each(0..10);
    assert_eq!(log.read(&mut cursor, Amount::Bytes(2)).1, texts(0..2));
    assert_eq!(log.read(&mut cursor, Amount::Bytes(3)).1, texts(2..5));
    assert_eq!(log.read(&mut cursor, Amount::Bytes(1)).1, texts(5..6));
    assert_eq!(log.read(&mut cursor, Amount::Bytes(0)).1, texts(6..7));
    assert_eq!(log.log.unread(&cursor), 3);
}

#[test]
fn the_newest_is_read_whatever_came_before_and_the_rest_is_counted() {
    // `published` messages at once, with room for four, after both readers have read something.
    for published in 0..8_u64 {
        let mut log = log(4, 1000);
        let mut latest = log.attach();
        let mut all = log.attach();
        for _ in 0..3 {
            log.append("before");
            assert_eq!(log.read(&mut all, ALL).0, 0);
            assert_eq!(
                log.log.latest(&mut latest).map(|(missed, _)| missed),
                Some(0)
            );
        }
        (0..published).for_each(|n| log.append(n.to_string()));
        let read = log.log.latest(&mut latest);
        let text = |newest: Batch| newest.into_message().as_text().map(str::to_owned);
        let read = read.map(|(missed, newest)| (missed, text(newest)));
        let newest = published.checked_sub(1);
        assert_eq!(read, newest.map(|n| (n, Some(n.to_string()))));
        assert!(log.log.latest(&mut latest).is_none(), "nothing is newer");
        let lagged = published.saturating_sub(4);
        let counts = log.log.counts();
        assert_eq!(counts.lost_superseded, published.saturating_sub(1 + lagged));
        assert_eq!(counts.lost_lagged, 2 * lagged);
        let kept = log.read(&mut all, ALL).1.len() as u64;
        assert_eq!(kept, published - lagged, "another reader gets its own");
        assert!(log.log.entries.is_empty(), "all is read");
        assert_eq!(log.log.counts().pending, 0);
    }
}

fn filter(bytes_max: usize, since: u64) -> BurstFilter {
    let since = Generation::new(since);
    BurstFilter { bytes_max, since }
}

fn burst(log: &mut Topic, cursor: &mut Cursor) -> Option<Arc<Burst>> {
    log.log.burst_of_one(cursor, filter(100, 1))
}

#[test]
fn who_stands_at_one_place_is_given_one_burst_made_once() {
    let mut log = log(8, 1000);
    let [mut a, mut b, mut c] = [(); 3].map(|()| log.attach());
    log.append("0");
    log.read(&mut c, ALL);
    log.append("1");
    let [of_a, of_b] = [&mut a, &mut b].map(|reader| burst(&mut log, reader).expect("two"));
    assert!(Arc::ptr_eq(&of_a, &of_b));
    assert_eq!(of_a.bytes(), b"\x81\x010\x81\x011");
    assert!(burst(&mut log, &mut c).is_none(), "it is alone");
    assert_eq!(log.read(&mut c, ALL), (0, texts(1..2)));
    assert!(
        log.log.burst.is_none() && log.log.entries.is_empty(),
        "all is read"
    );
    let counts = log.log.counts();
    assert_eq!((counts.owed, counts.delivered, counts.pending), (6, 6, 0));
}

#[test]
fn a_burst_is_all_there_is_even_if_one_was_made_before() {
    let mut log = log(8, 1000);
    let [mut a, mut b] = [(); 2].map(|()| log.attach());
    log.append("0");
    assert_eq!(burst(&mut log, &mut a).expect("two").messages(), 1);
    log.append("1");
    // The reader stands alone where the first burst began.
    assert!(burst(&mut log, &mut b).is_none());
    assert_eq!(log.read(&mut b, ALL), (0, texts(0..2)));
    assert_eq!(log.read(&mut a, ALL), (0, texts(1..2)));
}

#[test]
fn who_lost_some_or_is_not_suited_is_given_no_burst() {
    let mut log = log(2, 1000);
    let mut readers = [(); 2].map(|()| log.attach());
    log.append_each(0..3);
    assert!(
        burst(&mut log, &mut readers[0]).is_none(),
        "it has lost one"
    );
    for reader in &mut readers {
        assert_eq!(log.read(reader, ALL), (1, texts(1..3)));
    }
    let old = Origin::Service(Generation::new(4));
    log.append(Message::text("four").from_origin(old));
    for (bytes_max, since, suits) in [(5, 4, false), (100, 5, false), (6, 4, true)] {
        let due = log
            .log
            .burst_of_one(&mut readers[0], filter(bytes_max, since));
        assert_eq!(due.is_some(), suits, "{bytes_max} {since}");
    }
    assert!(log.log.burst.is_some(), "another one stands there");
    log.append("x");
    log.append("y");
    assert!(log.log.burst.is_none(), "it lies before the window");
}

#[test]
fn a_burst_suits_no_reader_that_may_not_have_all_of_it() {
    let by = |generation| Origin::Service(Generation::new(generation));
    for (generations, since, suits) in [
        ([4, 5], 5, false),
        ([5, 4], 5, false),
        ([4, 5], 4, true),
        ([5, 6], 5, true),
    ] {
        let mut log = log(8, 1000);
        let [mut a, _b] = [(); 2].map(|()| log.attach());
        for generation in generations {
            log.append(Message::text("x").from_origin(by(generation)));
        }
        let due = log.log.burst_of_one(&mut a, filter(100, since));
        assert_eq!(due.is_some(), suits, "{generations:?} for {since}");
    }
}

#[test]
fn several_readers_move_at_once() {
    let mut log = log(8, 1000);
    let cursors = [(); 3].map(|()| log.attach());
    log.append("0");
    let mut at = cursors[0].offset();
    assert!(log.log.burst(&mut at, 3, filter(100, 1)).is_some());
    assert_eq!(
        (at, log.log.counts().delivered, log.log.entries.len()),
        (1, 3, 0)
    );
    for mut cursor in cursors {
        cursor.seek(at);
        log.detach(cursor);
    }
    assert_eq!(log.readers, 0);
}

#[test]
fn a_burst_of_one_batch_is_not_copied() {
    let mut log = log(8, 1000);
    let [mut a, _b] = [(); 2].map(|()| log.attach());
    let batch = joined(&texts(0..2)).expect("two");
    let at = batch.frames().as_bytes().as_ptr();
    log.append(batch);
    let burst = burst(&mut log, &mut a).expect("two stand there");
    assert_eq!((burst.bytes().as_ptr(), burst.messages()), (at, 2));
}

#[test]
fn one_reader_is_given_the_memory_itself() {
    let mut log = log(4, 1000);
    let mut cursor = log.attach();
    let batch = joined(&texts(0..2)).expect("two");
    let at = batch.frames().as_bytes().as_ptr();
    log.append(batch);
    let mut read = Vec::new();
    log.log
        .read(&mut cursor, Amount::Batch, |batch| read.push(batch));
    assert_eq!((read.len(), read[0].frames().as_bytes().as_ptr()), (1, at));
    assert_eq!(log.read(&mut cursor, ALL), (0, vec![]));
    assert_eq!((log.log.bytes(), log.log.counts().delivered), (0, 2));
}

#[test]
fn a_read_takes_one_message_or_one_batch_as_it_is_asked() {
    for others in 0..2 {
        let mut log = log(8, 1000);
        let mut cursor = log.attach();
        let _others: Vec<_> = (0..others).map(|_| log.attach()).collect();
        log.append(joined(&texts(0..3)).expect("three"));
        log.append(joined(&texts(3..5)).expect("two"));
        assert_eq!(log.read(&mut cursor, Amount::Message), (0, texts(0..1)));
        assert_eq!(log.read(&mut cursor, Amount::Batch), (0, texts(1..3)));
        assert_eq!(log.read(&mut cursor, Amount::Batch), (0, texts(3..5)));
    }
}

#[test]
fn an_entry_that_is_split_is_put_together_by_nothing_and_lost_by_nobody() {
    // Two readers, of which one reads message by message, for different batches.
    for (first, second) in [(1, 5), (3, 3), (5, 1), (2, 4)] {
        let mut log = log(8, 1000);
        let [mut slow, mut fast] = [(); 2].map(|()| log.attach());
        log.append(joined(&texts(0..first)).expect("some"));
        log.append(joined(&texts(first..first + second)).expect("some"));
        for n in 0..first + second {
            assert_eq!(log.read(&mut slow, Amount::Message), (0, texts(n..n + 1)));
        }
        assert_eq!(log.read(&mut fast, ALL), (0, texts(0..first + second)));
        assert!(log.log.entries.is_empty());
    }
}

/// All sequences of `length` numbers up to `max`.
fn sequences(length: usize, max: usize) -> Vec<Vec<usize>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer = |sequence: Vec<usize>| (0..=max).map(move |n| [&sequence[..], &[n]].concat());
        shorter.into_iter().flat_map(longer).collect()
    })
}

/// Makes a log with a reader that has read everything, and a reader before messages of `lens`.
fn filled(lens: &[usize]) -> (Topic, [Cursor; 2]) {
    let mut log = log(3, 4);
    let mut cursors = [log.attach(), log.attach()];
    lens.iter().for_each(|len| log.append("x".repeat(*len)));
    log.read(&mut cursors[0], ALL);
    (log, cursors)
}

/// Makes one batch of messages with these lengths.
fn batch_of(lens: &[usize]) -> Option<Batch> {
    let texts: Vec<_> = lens.iter().map(|len| "x".repeat(*len)).collect();
    joined(&texts)
}

/// The visible state of a log, and what its readers receive.
fn seen(log: &mut Topic, cursors: [Cursor; 2]) -> impl PartialEq + std::fmt::Debug + use<> {
    let before = log.status();
    let got = cursors.map(|mut cursor| (log.log.unread(&cursor), log.read(&mut cursor, ALL)));
    (before, got, log.status(), log.log.entries.len())
}

#[test]
fn a_batch_is_appended_as_one_message_after_the_other() {
    for (before, batch) in (0..=2)
        .flat_map(|n| sequences(n, 3))
        .flat_map(|before| (1..=4).map(move |n| (before.clone(), n)))
        .flat_map(|(before, n)| {
            sequences(n, 5)
                .into_iter()
                .map(move |b| (before.clone(), b))
        })
    {
        let (mut one_by_one, cursors) = filled(&before);
        for len in &batch {
            one_by_one.append("x".repeat(*len));
        }
        let expected = seen(&mut one_by_one, cursors);
        let (mut at_once, cursors) = filled(&before);
        at_once.append(batch_of(&batch).expect("one at least"));
        let seen = seen(&mut at_once, cursors);
        assert_eq!(seen, expected, "{batch:?} after {before:?}");
    }
}

#[test]
fn as_many_messages_of_a_batch_fit_as_lose_nobody_a_message() {
    for offers in (1..=5).flat_map(|n| sequences(n, 3)) {
        let (mut log, _cursors) = filled(&[1]);
        let batch = batch_of(&offers).expect("one at least");
        let fitting = log.log.fitting(&batch);
        let lens = offers.iter().take_while(|len| {
            let has_room = log.log.has_room(**len);
            if has_room {
                log.append("x".repeat(**len));
            }
            has_room
        });
        assert_eq!(fitting, lens.count(), "{offers:?}");
    }
}

/// An operation on a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Publishes this many messages together, even if some of them are evicted.
    Publish(usize),
    /// Offers this many messages together.
    Offer(usize),
    /// The first reader receives one message.
    Next,
    /// The first reader reads up to this many bytes.
    Read(usize),
    Latest,
    /// A second reader joins, reads everything, or leaves.
    Other,
    OtherReads,
}

const STEPS: [Step; 9] = [
    Step::Publish(1),
    Step::Publish(2),
    Step::Publish(3),
    Step::Offer(2),
    Step::Next,
    Step::Read(2),
    Step::Latest,
    Step::Other,
    Step::OtherReads,
];

/// A log to which messages are appended as batches or one by one, for comparison.
struct World {
    log: Topic,
    first: Cursor,
    other: Option<Cursor>,
    are_joined: bool,
    published: usize,
}

impl World {
    fn new(are_joined: bool) -> Self {
        let mut log = log(4, 100);
        Self {
            first: log.attach(),
            log,
            other: None,
            are_joined,
            published: 0,
        }
    }

    /// Makes this many messages, in one batch or in one batch each.
    fn batches(&mut self, count: usize) -> Vec<Batch> {
        let numbers = self.published..self.published + count;
        self.published += count;
        let texts: Vec<_> = numbers.map(|n| n.to_string()).collect();
        if self.are_joined {
            joined(&texts).into_iter().collect()
        } else {
            texts.into_iter().map(Batch::from).collect()
        }
    }

    /// Executes a step, and returns the messages that each reader receives.
    fn step(&mut self, step: Step) -> String {
        match step {
            Step::Publish(count) => {
                for batch in self.batches(count) {
                    self.log.append(batch);
                }
                String::new()
            }
            Step::Offer(count) => {
                let mut fit = 0;
                for mut batch in self.batches(count) {
                    let fitting = self.log.log.fitting(&batch);
                    if fitting == batch.len() {
                        self.log.append(batch);
                    } else if fitting > 0 {
                        self.log.append(batch.split_front(fitting));
                    }
                    fit += fitting;
                }
                format!("{fit} fit")
            }
            Step::Next => format!("{:?}", self.log.read(&mut self.first, Amount::Message)),
            Step::Read(bytes) => {
                let read = self.log.read(&mut self.first, Amount::Bytes(bytes));
                format!("{read:?}")
            }
            Step::Latest => {
                let latest = self.log.log.latest(&mut self.first);
                let text = |(missed, newest): (u64, Batch)| (missed, texts_of(&newest));
                format!("{:?}", latest.map(text))
            }
            Step::Other => match self.other.take() {
                Some(cursor) => {
                    self.log.detach(cursor);
                    "left".into()
                }
                None => {
                    self.other = Some(self.log.attach());
                    "joined".into()
                }
            },
            Step::OtherReads => match &mut self.other {
                Some(cursor) => format!("{:?}", self.log.read(cursor, ALL)),
                None => String::new(),
            },
        }
    }
}

#[test]
fn a_batch_is_as_one_message_after_the_other_whatever_happens() {
    let numbers = sequences(5, STEPS.len() - 1);
    for numbers in numbers {
        let (mut batches, mut singles) = (World::new(true), World::new(false));
        let steps: Vec<_> = numbers.iter().map(|number| STEPS[*number]).collect();
        for step in &steps {
            assert_eq!(batches.step(*step), singles.step(*step), "{steps:?}");
            assert_eq!(batches.log.status(), singles.log.status(), "{steps:?}");
        }
        for mut world in [batches, singles] {
            world.log.detach(world.first);
            if let Some(cursor) = world.other.take() {
                world.log.detach(cursor);
            }
            assert_eq!(
                (world.log.log.bytes(), world.log.log.counts().pending),
                (0, 0)
            );
        }
    }
}
