//! What a log keeps, gives and counts.

use std::num::NonZeroUsize;

use super::*;
use crate::bus::batch::Batch;
use crate::bus::message::{Generation, Origin};
use crate::bus::ring::{KEPT, Parcel};
use crate::bus::train::Train;

const ALL: usize = usize::MAX;

fn log(messages: usize, bytes: usize) -> Log {
    let messages = NonZeroUsize::new(messages).expect("not zero");
    Log::of(Window { messages, bytes }, 0)
}

fn read(log: &mut Log, cursor: &mut Cursor, bytes_max: usize) -> (u64, Vec<String>) {
    let mut into = Vec::new();
    let lost = log.read(cursor, bytes_max, &mut into);
    let texts = into.iter().filter_map(|m| m.as_text().map(str::to_owned));
    (lost, texts.collect())
}

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_full_window_loses_nothing_and_one_more_loses_the_oldest() {
    let mut log = log(4, 1000);
    let mut cursor = log.attach();
    (0..4).for_each(|n| log.append(n.to_string().into()));
    assert_eq!(log.counts().lost_lagged, 0);
    log.append("4".into());
    assert_eq!(log.counts().lost_lagged, 1);
    assert_eq!(read(&mut log, &mut cursor, ALL), (1, texts(1..5)));
    assert_eq!(read(&mut log, &mut cursor, ALL), (0, vec![]));
}

#[test]
fn the_byte_bound_evicts_and_the_newest_message_always_stays() {
    let mut log = log(100, 10);
    let mut cursor = log.attach();
    log.append("12345".into());
    log.append("67890".into());
    assert_eq!(log.counts().lost_lagged, 0, "exactly the bound fits");
    log.append("x".into());
    assert_eq!(log.counts().lost_lagged, 1);
    log.append("far more than ten".into());
    assert_eq!(log.counts().lost_lagged, 3);
    let (lost, texts) = read(&mut log, &mut cursor, ALL);
    assert_eq!((lost, texts.len()), (3, 1));
}

#[test]
fn room_ends_exactly_where_a_message_would_be_lost() {
    let mut log = log(2, 10);
    assert!(log.has_room(11), "an empty log takes any one message");
    let mut cursor = log.attach();
    log.append("12345".into());
    assert!(log.has_room(5));
    assert!(!log.has_room(6));
    log.append("12345".into());
    assert!(!log.has_room(0), "the count is full");
    read(&mut log, &mut cursor, ALL);
    assert!(log.has_room(10));
}

#[test]
fn what_everybody_has_read_is_freed_at_once() {
    let mut log = log(256, 1 << 20);
    let mut fast = log.attach();
    let mut slow = log.attach();
    (0..200).for_each(|n| log.append(n.to_string().into()));
    read(&mut log, &mut fast, ALL);
    assert_eq!(log.entries.len(), 200, "slow has read nothing");
    let first_100 = 10 + 90 * 2;
    assert_eq!(read(&mut log, &mut slow, first_100), (0, texts(0..100)));
    assert_eq!(log.entries.len(), 100);
    log.detach(slow);
    assert_eq!((log.entries.len(), log.bytes()), (0, 0));
    assert_eq!(
        log.entries.capacity(),
        0,
        "the burst's memory is given back"
    );
    assert_eq!(log.counts().lost_unsubscribed, 100);
}

#[test]
fn the_memory_of_a_few_messages_is_kept_and_that_of_a_burst_is_not() {
    for (messages, kept) in [(KEPT, KEPT), (KEPT + 1, 0)] {
        let mut log = log(256, 1 << 20);
        let mut cursor = log.attach();
        (0..messages).for_each(|n| log.append(n.to_string().into()));
        read(&mut log, &mut cursor, ALL);
        assert_eq!(log.entries.capacity(), kept, "{messages} messages");
        log.detach(cursor);
        assert_eq!(log.entries.capacity(), 0, "nobody reads any more");
    }
}

#[test]
fn what_was_read_before_stays_before_what_is_read() {
    let mut log = log(4, 1000);
    let mut cursor = log.attach();
    let mut into = vec!["before".into()];
    log.append("0".into());
    assert_eq!(log.read(&mut cursor, 0, &mut into), 0);
    assert_eq!(into, ["before".into(), Message::text("0")]);
    assert_eq!(log.unread(&cursor), 0);
}

#[test]
fn a_read_stops_at_its_limits_but_takes_at_least_one() {
    let mut log = log(10, 1000);
    let mut cursor = log.attach();
    (0..10).for_each(|n| log.append(n.to_string().into()));
    assert_eq!(read(&mut log, &mut cursor, 2).1, texts(0..2));
    assert_eq!(read(&mut log, &mut cursor, 3).1, texts(2..5));
    assert_eq!(read(&mut log, &mut cursor, 1).1, texts(5..6));
    assert_eq!(read(&mut log, &mut cursor, 0).1, texts(6..7));
    assert_eq!(log.unread(&cursor), 3);
}

#[test]
fn the_newest_is_read_whatever_came_before_and_the_rest_is_counted() {
    // So many published at once, with room for four, when both have read something before.
    for published in 0..8_u64 {
        let mut log = log(4, 1000);
        let mut latest = log.attach();
        let mut all = log.attach();
        for _ in 0..3 {
            log.append("before".into());
            assert_eq!(log.read(&mut all, ALL, &mut Vec::new()), 0);
            assert_eq!(log.latest(&mut latest).map(|(missed, _)| missed), Some(0));
        }
        (0..published).for_each(|n| log.append(n.to_string().into()));
        let read = log.latest(&mut latest);
        let read = read.map(|(missed, message)| (missed, message.as_text().map(str::to_owned)));
        let newest = published.checked_sub(1);
        assert_eq!(read, newest.map(|n| (n, Some(n.to_string()))));
        assert!(log.latest(&mut latest).is_none(), "nothing is newer");
        let lagged = published.saturating_sub(4);
        let counts = log.counts();
        assert_eq!(counts.lost_superseded, published.saturating_sub(1 + lagged));
        assert_eq!(counts.lost_lagged, 2 * lagged);
        let kept = self::read(&mut log, &mut all, ALL).1.len() as u64;
        assert_eq!(kept, published - lagged, "another reader gets its own");
        assert!(log.entries.is_empty(), "all is read");
        assert_eq!(log.counts().pending, 0);
    }
}

fn terms(bytes_max: usize, since: u64) -> Terms {
    let since = Generation::new(since);
    Terms { bytes_max, since }
}

fn burst(log: &mut Log, cursor: &mut Cursor) -> Option<Arc<Burst>> {
    match log.burst_of_one(cursor, terms(100, 1)) {
        Read::All(burst) | Read::Part(burst) => burst,
        Read::None => None,
    }
}

#[test]
fn who_stands_at_one_place_is_given_one_burst_made_once() {
    let mut log = log(8, 1000);
    let [mut a, mut b, mut c] = [(); 3].map(|()| log.attach());
    assert!(matches!(
        log.burst_of_one(&mut a, terms(100, 1)),
        Read::None
    ));
    log.append("0".into());
    read(&mut log, &mut c, ALL);
    log.append("1".into());
    let [of_a, of_b] = [&mut a, &mut b].map(|reader| burst(&mut log, reader).expect("two"));
    assert!(Arc::ptr_eq(&of_a, &of_b));
    assert_eq!(of_a.bytes(), b"\x81\x010\x81\x011");
    assert!(burst(&mut log, &mut c).is_none(), "it is alone");
    assert_eq!(read(&mut log, &mut c, ALL), (0, texts(1..2)));
    assert!(log.burst.is_none() && log.entries.is_empty(), "all is read");
    let counts = log.counts();
    assert_eq!((counts.owed, counts.delivered, counts.pending), (6, 6, 0));
}

#[test]
fn a_burst_is_all_there_is_even_if_one_was_made_before() {
    let mut log = log(8, 1000);
    let [mut a, mut b] = [(); 2].map(|()| log.attach());
    log.append("0".into());
    assert_eq!(burst(&mut log, &mut a).expect("two").marks().len(), 1);
    log.append("1".into());
    // Alone now where the first burst began.
    assert!(burst(&mut log, &mut b).is_none());
    assert_eq!(read(&mut log, &mut b, ALL), (0, texts(0..2)));
    assert_eq!(read(&mut log, &mut a, ALL), (0, texts(1..2)));
}

#[test]
fn who_lost_some_or_is_not_suited_is_given_no_burst() {
    let mut log = log(2, 1000);
    let mut readers = [(); 2].map(|()| log.attach());
    (0..3).for_each(|n| log.append(n.to_string().into()));
    assert!(
        burst(&mut log, &mut readers[0]).is_none(),
        "it has lost one"
    );
    for reader in &mut readers {
        assert_eq!(read(&mut log, reader, ALL), (1, texts(1..3)));
    }
    let old = Origin::Service(Generation::new(4));
    log.append(Message::text("four").from_origin(old));
    for (bytes_max, since, suits) in [(5, 4, false), (100, 5, false), (6, 4, true)] {
        let due = log.burst_of_one(&mut readers[0], terms(bytes_max, since));
        assert_eq!(
            matches!(due, Read::All(Some(_))),
            suits,
            "{bytes_max} {since}"
        );
    }
    assert!(log.burst.is_some(), "another one stands there");
    log.append("x".into());
    log.append("y".into());
    assert!(log.burst.is_none(), "it lies before the window");
}

#[test]
fn several_readers_move_at_once() {
    let mut log = log(8, 1000);
    let cursors = [(); 3].map(|()| log.attach());
    log.append("0".into());
    let mut at = cursors[0].number();
    let due = log.burst(&mut at, 3, terms(100, 1));
    assert!(matches!(due, Read::All(Some(_))));
    assert_eq!((at, log.counts().delivered, log.entries.len()), (1, 3, 0));
    for mut cursor in cursors {
        cursor.follow(at);
        log.detach(cursor);
    }
    assert_eq!(log.readers(), 0);
}

#[test]
fn a_message_for_nobody_is_counted_and_not_kept() {
    let mut log = log(4, 100);
    log.append("x".into());
    let counts = log.counts();
    assert_eq!((counts.published, counts.owed), (1, 0));
    assert_eq!((log.entries.len(), log.bytes()), (0, 0));
    let mut late = log.attach();
    assert_eq!(read(&mut log, &mut late, ALL), (0, vec![]));
}

#[test]
fn one_reader_is_given_the_messages_themselves() {
    let frame = |message: &Message| message.frame().as_bytes().as_ptr();
    let mut log = log(4, ALL);
    let mut cursor = log.attach();
    let message = Message::from("a");
    let at = frame(&message);
    log.append(message);
    let Some(Received::Message(message)) = log.next(&mut cursor) else {
        panic!("it is there");
    };
    assert_eq!(frame(&message), at);
    assert!(log.next(&mut cursor).is_none());
    assert_eq!((log.bytes(), log.counts().delivered), (0, 1));
}

#[test]
fn a_read_takes_memory_for_what_it_gives_and_not_for_all_there_is() {
    let mut log = log(5000, ALL);
    let mut cursor = log.attach();
    (0..5000).for_each(|_| log.append("x".into()));
    let mut into = Vec::new();
    assert_eq!(log.read(&mut cursor, 3, &mut into), 0);
    assert_eq!(into.len(), 3);
    assert!(into.capacity() <= KEPT, "room for {}", into.capacity());
}

/// All sequences of so many numbers up to `max`.
fn sequences(length: usize, max: usize) -> Vec<Vec<usize>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer = |sequence: Vec<usize>| (0..=max).map(move |n| [&sequence[..], &[n]].concat());
        shorter.into_iter().flat_map(longer).collect()
    })
}

/// A log with a reader that has read everything, and one before these messages.
fn filled(lens: &[usize]) -> (Log, [Cursor; 2]) {
    let mut log = log(3, 4);
    let mut cursors = [log.attach(), log.attach()];
    lens.iter().for_each(|len| log.append(message(*len)));
    read(&mut log, &mut cursors[0], ALL);
    (log, cursors)
}

fn message(len: usize) -> Message {
    "x".repeat(len).as_str().into()
}

/// What can be seen of a log, and what its readers get.
fn seen(log: &mut Log, cursors: [Cursor; 2]) -> impl PartialEq + std::fmt::Debug + use<> {
    let before = (log.counts(), log.bytes(), log.next_number(), log.room());
    let got = cursors.map(|mut cursor| (log.unread(&cursor), read(log, &mut cursor, ALL)));
    (before, got, log.counts(), log.bytes(), log.entries.len())
}

#[test]
fn a_batch_is_appended_as_one_message_after_the_other() {
    for (before, batch) in (0..=2)
        .flat_map(|n| sequences(n, 3))
        .flat_map(|before| (0..=4).map(move |n| (before.clone(), n)))
        .flat_map(|(before, n)| {
            sequences(n, 5)
                .into_iter()
                .map(move |b| (before.clone(), b))
        })
    {
        let (mut one_by_one, cursors) = filled(&before);
        batch
            .iter()
            .for_each(|len| one_by_one.append(message(*len)));
        let expected = seen(&mut one_by_one, cursors);
        let (mut at_once, cursors) = filled(&before);
        let mut messages = batch.iter().map(|len| message(*len)).collect();
        at_once.append_batch(&mut messages);
        assert_eq!((messages.len(), messages.bytes()), (0, 0));
        let seen = seen(&mut at_once, cursors);
        assert_eq!(seen, expected, "{batch:?} after {before:?}");
    }
}

#[test]
fn a_batch_takes_no_more_memory_than_the_window() {
    let mut log = log(3, ALL);
    let cursor = log.attach();
    log.append_batch(&mut std::iter::repeat_n(message(1), 1000).collect());
    assert_eq!((log.unread(&cursor), log.counts().lost_lagged), (3, 997));
    assert!(log.entries.capacity() <= KEPT);
}

#[test]
fn of_what_is_on_offer_as_much_is_appended_as_loses_nobody_a_message() {
    for offers in (0..=5).flat_map(|n| sequences(n, 3)) {
        let (mut one_by_one, cursors) = filled(&[1]);
        let lens = offers.iter().take_while(|len| {
            let has_room = one_by_one.has_room(**len);
            if has_room {
                one_by_one.append(message(**len));
            }
            has_room
        });
        let count = lens.count();
        let expected = seen(&mut one_by_one, cursors);
        let (mut at_once, cursors) = filled(&[1]);
        let mut messages: Batch = offers.iter().map(|len| message(*len)).collect();
        assert_eq!(at_once.append_fitting(&mut messages), count as u64);
        assert_eq!(messages.len(), offers.len() - count, "the rest is left");
        assert_eq!(seen(&mut at_once, cursors), expected, "{offers:?}");
    }
}

/// What may happen to a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// This many messages are published together, however many of them are kept.
    Publish(usize),
    /// The same on offer.
    Offer(usize),
    /// The first reader receives one.
    Next,
    /// The first reader reads up to so many bytes.
    Read(usize),
    Latest,
    /// A second reader joins, reads what there is, or leaves.
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

/// A log to which messages that come together are appended as a train, or one by one.
struct Trains {
    log: Log,
    first: Cursor,
    other: Option<Cursor>,
    are_packed: bool,
    published: usize,
}

impl Trains {
    fn new(are_packed: bool) -> Self {
        let mut log = log(4, 100);
        Self {
            first: log.attach(),
            log,
            other: None,
            are_packed,
            published: 0,
        }
    }

    fn batch(&mut self, count: usize) -> Batch {
        let texts: Vec<_> = (0..count)
            .map(|n| (self.published + n).to_string())
            .collect();
        self.published += count;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if self.are_packed {
            Train::of_texts(&texts).into()
        } else {
            texts.into()
        }
    }

    /// What the step gives to whom.
    fn step(&mut self, step: Step) -> String {
        match step {
            Step::Publish(count) => {
                let mut batch = self.batch(count);
                self.log.append_batch(&mut batch);
                format!("{} left", batch.len())
            }
            Step::Offer(count) => {
                let mut batch = self.batch(count);
                let fit = self.log.append_fitting(&mut batch);
                format!("{fit} fit, {:?} left", texts_of(batch))
            }
            Step::Next => format!("{:?}", self.log.next(&mut self.first).map(text_of)),
            Step::Read(bytes) => format!("{:?}", read(&mut self.log, &mut self.first, bytes)),
            Step::Latest => {
                let latest = self.log.latest(&mut self.first);
                format!(
                    "{:?}",
                    latest.map(|(missed, message)| (missed, texts_of(message)))
                )
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
                Some(cursor) => format!("{:?}", read(&mut self.log, cursor, ALL)),
                None => String::new(),
            },
        }
    }

    fn status(&self) -> TopicStatus {
        self.log.status(&"t".parse().expect("a valid name"))
    }
}

fn text_of(received: Received) -> Result<Vec<String>, u64> {
    match received {
        Received::Message(message) => Ok(texts_of(message)),
        Received::Lagged(lost) => Err(lost),
    }
}

fn texts_of(batch: impl Into<Batch>) -> Vec<String> {
    let messages = batch.into().into_iter();
    let text = |message: Message| message.as_text().expect("it is a text").to_owned();
    messages.map(text).collect()
}

#[test]
fn what_comes_together_is_as_one_message_after_the_other_whatever_happens() {
    let numbers = sequences(5, STEPS.len() - 1);
    for numbers in numbers {
        let (mut packed, mut plain) = (Trains::new(true), Trains::new(false));
        let steps = numbers.iter().map(|number| STEPS[*number]);
        for step in steps.clone() {
            let steps: Vec<_> = steps.clone().collect();
            assert_eq!(packed.step(step), plain.step(step), "{steps:?}");
            assert_eq!(packed.status(), plain.status(), "{steps:?}");
            assert_eq!(packed.log.room(), plain.log.room(), "{steps:?}");
        }
        for mut world in [packed, plain] {
            world.log.detach(world.first);
            world
                .other
                .take()
                .into_iter()
                .for_each(|cursor| world.log.detach(cursor));
            assert_eq!((world.log.bytes(), world.log.counts().pending), (0, 0));
        }
    }
}

#[test]
fn what_comes_together_stays_together_for_one_reader() {
    for (others, is_together) in [(0, true), (1, false)] {
        let mut log = log(100, ALL);
        let mut cursor = log.attach();
        let others: Vec<_> = (0..others).map(|_| log.attach()).collect();
        let train = Train::of_texts(&["a", "b"]);
        let at = train.frames().as_bytes().as_ptr();
        log.append_batch(&mut train.into());
        log.append("c".into());
        let mut into = Batch::new();
        assert_eq!(log.read(&mut cursor, ALL, &mut into), 0);
        assert_eq!(into.len(), 3);
        let first = into.pop_parcel().expect("it was read");
        assert_eq!(first.is_train(), is_together);
        if let Parcel::Train(train) = first {
            assert_eq!(
                train.frames().as_bytes().as_ptr(),
                at,
                "it is the same memory"
            );
        }
        others.into_iter().for_each(|cursor| log.detach(cursor));
    }
}
