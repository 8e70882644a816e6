//! Every short sequence of changes to a history, against a list of all messages ever published.

use std::ops::Range;
use std::time::SystemTime;

use super::*;
use crate::bus::message::Message;
use crate::bus::origin::{Client, Origin};
use crate::bus::topic::ClientId;
use crate::client::identity::Identity;

const MESSAGES: usize = 3;
const TTL: u64 = 3;
const EPOCH: Epoch = Epoch::from_bits(7);

/// A change to a history.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A batch of so many messages is appended.
    Append(usize),
    /// The oldest entry makes room for others.
    Evict,
    /// At most one expired entry is dropped.
    Expire,
    /// The topic loses its last subscriber, and gets another one.
    Leave,
    /// A message is published live alone.
    Live,
    /// A second passes.
    Pass,
    /// All messages are removed.
    Remove,
}

const OPS: [Op; 8] = [
    Op::Append(1),
    Op::Append(2),
    Op::Evict,
    Op::Expire,
    Op::Leave,
    Op::Live,
    Op::Pass,
    Op::Remove,
];

/// A message ever published into the history.
#[derive(Clone, Debug)]
struct Said {
    /// The place in the log of the present topic.
    place: Option<u64>,
    at: u64,
    /// The number of the batch.
    batch: usize,
    bytes: usize,
    gone: Option<Cause>,
}

/// The list of all messages, the first of which has the offset 1.
#[derive(Clone, Debug, Default)]
struct List {
    said: Vec<Said>,
    batches: usize,
    /// The place of the next message in the log of the topic.
    place: u64,
    now: u64,
}

impl List {
    fn top(&self) -> u64 {
        self.said.len() as u64
    }

    /// The reason why a message cannot be served.
    fn gone(&self, said: &Said) -> Option<Cause> {
        let is_old = said.at + TTL <= self.now;
        said.gone.or_else(|| is_old.then_some(Cause::Expired))
    }

    fn served(&self) -> Vec<u64> {
        let all = (1..).zip(&self.said);
        let served = all.filter(|(_, said)| self.gone(said).is_none());
        served.map(|(offset, _)| offset).collect()
    }

    fn kept(&self) -> Vec<usize> {
        let kept = |n: &usize| self.said[*n].gone.is_none();
        (0..self.said.len()).filter(kept).collect()
    }

    fn drop_expired(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let is_old = |said: &Said| said.at + TTL <= self.now;
            let first = self.kept().into_iter().find(|n| is_old(&self.said[*n]));
            if let Some(first) = first {
                self.drop_batch(first, Cause::Expired);
            }
        }
    }

    fn drop_batch(&mut self, of: usize, cause: Cause) {
        let batch = self.said[of].batch;
        for n in self.kept() {
            if self.said[n].batch == batch {
                self.said[n].gone = Some(cause);
            }
        }
    }

    fn append(&mut self, count: usize, bytes: usize, bytes_max: usize) {
        self.batches += 1;
        for _ in 0..count {
            self.said.push(Said {
                place: Some(self.place),
                at: self.now,
                batch: self.batches,
                bytes,
                gone: None,
            });
            self.place += 1;
        }
        self.drop_expired(self.said.len());
        while self.kept().len() > MESSAGES {
            let oldest = self.kept()[0];
            self.said[oldest].gone = Some(Cause::Evicted);
        }
        while self.bytes() > bytes_max {
            self.drop_batch(self.kept()[0], Cause::Evicted);
        }
    }

    /// The bytes of all batches of which a message is kept.
    fn bytes(&self) -> usize {
        let (mut bytes, mut batch) = (0, 0);
        for n in self.kept() {
            let said = &self.said[n];
            bytes += if said.batch == batch { 0 } else { said.bytes };
            batch = said.batch;
        }
        bytes
    }

    fn recover(&self, since: u64) -> Result<Range<u64>, Why> {
        if since > self.top() {
            return Err(Why::Ahead);
        }
        let missed = (since + 1..).zip(&self.said[usize::try_from(since).expect("small")..]);
        let gone = missed.filter_map(|(_, said)| self.gone(said)).last();
        match gone {
            Some(cause) => Err(cause.into()),
            None if self.top() - since > 2 => Err(Why::TooMany),
            None => Ok(since + 1..self.top() + 1),
        }
    }
}

fn retention(bytes: usize) -> StdArc<Retention> {
    StdArc::new(Retention {
        messages: MESSAGES.try_into().expect("not zero"),
        bytes,
        ttl: Duration::from_secs(TTL),
        recovery_max: Some(2),
    })
}

fn moment(seconds: u64) -> Moment {
    Moment {
        at: instant(seconds),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    }
}

fn instant(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn batch(count: usize) -> Batch {
    let texts = (0..count).map(|_| Message::text("x"));
    Batch::join(texts).expect("one at least")
}

/// The bytes of an entry with so few messages.
fn entry_bytes() -> usize {
    size_of::<Entry>() + batch(2).frames().pinned_bytes()
}

/// A history and the list of all that it ever took.
struct Pair {
    history: History,
    list: List,
    bytes_max: usize,
}

impl Pair {
    fn new(bytes_max: usize) -> Self {
        let history = History::new(EPOCH, &retention(bytes_max), instant(0));
        let list = List::default();
        Self {
            history,
            list,
            bytes_max,
        }
    }

    fn apply(&mut self, op: Op) {
        let (history, list) = (&mut self.history, &mut self.list);
        let now = moment(list.now);
        match op {
            Op::Append(count) => {
                let mut batch = batch(count);
                history.append(&mut batch, list.place, now);
                assert_eq!(batch.offset(), Some(list.top() + 1));
                list.append(count, entry_bytes(), self.bytes_max);
            }
            Op::Evict => {
                let oldest = list.kept().first().copied();
                assert_eq!(history.evict_oldest(), oldest.is_some());
                if let Some(oldest) = oldest {
                    list.drop_batch(oldest, Cause::Evicted);
                }
            }
            Op::Expire => {
                history.expire(now.at, 1);
                list.drop_expired(1);
            }
            Op::Leave => {
                history.enter_topic();
                list.place = 0;
                list.said.iter_mut().for_each(|said| said.place = None);
            }
            Op::Live => {
                let mut live = batch(1).live();
                history.append(&mut live, list.place, now);
                assert_eq!(live.offset(), None);
                list.place += 1;
            }
            Op::Pass => list.now += 1,
            Op::Remove => {
                history.remove(now.at);
                list.drop_expired(list.said.len());
                for n in list.kept() {
                    list.said[n].gone = Some(Cause::Removed);
                }
            }
        }
    }

    fn compare(&mut self) {
        let (history, list) = (&mut self.history, &self.list);
        assert_eq!(history.len(), list.kept().len() as u64);
        assert_eq!(history.bytes(), list.bytes());
        let offset = list.top();
        let epoch = EPOCH;
        assert_eq!(history.position(), Position { epoch, offset });
        let oldest = list.kept().first().map(|n| list.said[*n].at + TTL);
        assert_eq!(history.next_expiry(), oldest.map(instant));
        let dropped = history.take_dropped();
        let of = |cause| list.said.iter().filter(|it| it.gone == Some(cause)).count() as u64;
        assert_eq!(
            (dropped.evicted, dropped.expired, dropped.removed),
            (of(Cause::Evicted), of(Cause::Expired), of(Cause::Removed))
        );
        self.compare_recoveries();
        self.compare_readings();
        self.compare_spans();
    }

    fn compare_recoveries(&self) {
        let now = instant(self.list.now);
        for offset in 0..self.list.top() + 3 {
            let expected = self.list.recover(offset);
            for epoch in [None, Some(EPOCH)] {
                let since = Since { epoch, offset };
                assert_eq!(self.history.recover(&since, now), expected, "{since}");
            }
            let epoch = Some(Epoch::from_bits(8));
            let other = self.history.recover(&Since { epoch, offset }, now);
            assert_eq!(other, Err(Why::Epoch));
        }
    }

    fn compare_readings(&self) {
        let (now, served) = (instant(self.list.now), self.list.served());
        let all = (0..self.list.top() + 3).map(Some).chain([None]);
        for (since, limit, reverse) in all.flat_map(|since| {
            let limits = [0, 1, 2, 9].into_iter();
            limits.flat_map(move |limit| [false, true].map(|reverse| (since, limit, reverse)))
        }) {
            let mut expected = served.clone();
            expected.retain(|offset| match since {
                Some(since) if reverse => *offset < since,
                Some(since) => *offset > since,
                None => true,
            });
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit);
            let epoch = Some(EPOCH);
            let since = since.map(|offset| Since { epoch, offset });
            let reading = Reading {
                since,
                limit,
                reverse,
            };
            let parts = self.history.read(&reading, now).expect("its epoch");
            let page = reading.page(&parts, self.history.position());
            let offsets = page.messages.iter().map(|it| it.message.offset());
            assert!(
                offsets.eq(expected.iter().copied().map(Some)),
                "{reading:?}"
            );
            let at = |offset: &u64| self.list.said[usize::try_from(offset - 1).expect("small")].at;
            let times = page.messages.iter().map(|recorded| recorded.at);
            assert!(times.eq(expected.iter().map(|offset| moment(at(offset)).wall)));
        }
    }

    fn compare_spans(&self) {
        let now = instant(self.list.now);
        let served: Vec<_> = self.list.served();
        let said = |offset: &u64| &self.list.said[usize::try_from(offset - 1).expect("small")];
        let places = served.iter().filter_map(|offset| said(offset).place);
        let places: Vec<_> = places.collect();
        let (top, place) = (self.list.top(), self.list.place);
        for (numbers, end, is_place) in [(&served, top + 1, false), (&places, place, true)] {
            for start in u64::from(!is_place)..end {
                for end in start..=end {
                    let span = if is_place {
                        Span::Places(start..end)
                    } else {
                        Span::Offsets(start..end)
                    };
                    let next = self.history.next_of(&span, now);
                    let inside = |number: &&u64| **number >= start && **number < end;
                    let first = numbers.iter().find(inside);
                    assert_eq!(next.lost, first.unwrap_or(&end) - start, "{span:?}");
                    let Some(batch) = next.batch else {
                        assert_eq!(first, None, "{span:?}");
                        continue;
                    };
                    let count = batch.len() as u64;
                    let first = *first.expect("there is a batch");
                    let taken = first..first + count;
                    assert!(taken.end <= end);
                    assert!(taken.clone().all(|number| numbers.contains(&number)));
                    if !is_place {
                        assert_eq!(batch.offset(), Some(first));
                    }
                }
            }
        }
    }
}

/// Runs every sequence of at most this many operations.
fn enumerate(bytes_max: usize, length: usize) {
    let length = if cfg!(miri) { 2 } else { length };
    let mut sequences = vec![Vec::new()];
    while let Some(sequence) = sequences.pop() {
        let run = || {
            let mut pair = Pair::new(bytes_max);
            sequence.iter().for_each(|op| pair.apply(*op));
            pair.compare();
        };
        if std::panic::catch_unwind(run).is_err() {
            panic!("{sequence:?}");
        }
        if sequence.len() < length {
            let longer = OPS.map(|op| [&sequence[..], &[op]].concat());
            sequences.extend(longer);
        }
    }
}

#[test]
fn a_history_is_as_a_list_of_all_messages_whatever_happens() {
    enumerate(1 << 20, 5);
}

#[test]
fn a_history_that_is_bounded_by_bytes_is_as_a_list_whatever_happens() {
    enumerate(2 * entry_bytes(), 5);
    enumerate(0, 3);
}

#[test]
fn a_batch_is_kept_without_a_copy_and_without_what_only_the_room_may_know() {
    let mut history = History::new(EPOCH, &retention(1 << 20), instant(0));
    let topic: crate::bus::topic::Topic = "to:7".parse().expect("a valid name");
    let identity = |subject: &str| Identity {
        subject: Some(subject.into()),
        claims: Some("{}".into()),
        expires: None,
    };
    let client = |subject| Client::new(ClientId::new(7), identity(subject), topic.clone());
    for subject in ["ann", "ann", "bob"] {
        let origin = Origin::Client(client(subject));
        let mut said = batch(1).stamped(origin, instant(1));
        let block = said.frames().as_bytes().as_ptr();
        history.append(&mut said, 0, moment(0));
        let kept = &history.entries.back().expect("it is kept").batch();
        assert_eq!(kept.frames().as_bytes().as_ptr(), block);
        assert_eq!(kept.published_at(), None);
        assert_eq!(kept.offset(), said.offset());
        let sender = kept.origin().client().expect("a client");
        assert_eq!(sender, &client(subject));
        assert_eq!((sender.subject(), sender.claims()), (Some(subject), None));
    }
    let senders: Vec<_> = history.entries.iter().map(Entry::origin).collect();
    let shared = |a: &Origin, b: &Origin| match (a.client(), b.client()) {
        (Some(a), Some(b)) => std::ptr::eq(a.topic(), b.topic()),
        (None, _) | (_, None) => false,
    };
    assert!(shared(senders[0], senders[1]), "one client, one snapshot");
    assert!(
        !shared(senders[1], senders[2]),
        "it came to another subject"
    );
}

#[test]
fn encodings_made_for_the_readers_count_once_the_next_message_comes() {
    let mut history = History::new(EPOCH, &retention(1 << 20), instant(0));
    history.append(&mut batch(1), 0, moment(0));
    let before = history.bytes();
    let newest = history.entries.back().expect("it is kept").batch();
    let _envelope = newest
        .frames()
        .enveloped(|_whole| batch(1).frames().clone());
    assert_eq!(history.bytes(), before);
    history.append(&mut batch(1), 1, moment(0));
    assert!(history.bytes() > 2 * before);
    assert!(history.evict_oldest() && history.evict_oldest());
    assert_eq!(history.bytes(), 0);
}

#[test]
fn a_saved_history_goes_on_where_it_was() {
    let mut sequences = vec![Vec::new()];
    while let Some(sequence) = sequences.pop() {
        let mut pair = Pair::new(1 << 20);
        sequence.iter().for_each(|op| pair.apply(*op));
        let now = instant(pair.list.now);
        let (cause, batches) = pair.history.save(now);
        let saved = Saved {
            is_live: false,
            topic: "t".parse().expect("a valid name"),
            position: pair.history.position(),
            cause,
            maker: Maker::default(),
            unused: Duration::ZERO,
            batches,
        };
        // The clock of another process begins anew.
        let restored = saved.restore(&retention(1 << 20), moment(0));
        let restored = restored.expect("it is whole");
        assert_eq!(restored.position(), pair.history.position());
        for seconds in 0..TTL {
            let [then, before] = [seconds, pair.list.now + seconds].map(instant);
            for offset in 0..pair.list.top() + 2 {
                let since = Since {
                    epoch: Some(EPOCH),
                    offset,
                };
                let expected = pair.history.recover(&since, before);
                assert_eq!(restored.recover(&since, then), expected, "{sequence:?}");
            }
        }
        if sequence.len() < if cfg!(miri) { 2 } else { 4 } {
            sequences.extend(OPS.map(|op| [&sequence[..], &[op]].concat()));
        }
    }
}

#[test]
fn more_messages_than_the_position_tells_are_not_restored() {
    let batch = SavedBatch {
        batch: batch(2),
        age: Duration::ZERO,
        at: SystemTime::UNIX_EPOCH,
    };
    for (offset, is_whole) in [(1, false), (2, true)] {
        let epoch = EPOCH;
        let saved = Saved {
            is_live: false,
            topic: "t".parse().expect("a valid name"),
            position: Position { epoch, offset },
            cause: Cause::Evicted,
            maker: Maker::default(),
            unused: Duration::ZERO,
            batches: vec![batch.clone()],
        };
        let restored = saved.restore(&retention(1 << 20), moment(0));
        assert_eq!(restored.is_some(), is_whole);
    }
}
