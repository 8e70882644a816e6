//! The codec reads the bytes that it has written, and no others.

use std::io;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::damage::Damage;
use super::super::decode::decode;
use super::super::encode::{Bounds, Encoded, encode};
use super::super::format::{HEAD, MAGIC, VERSION};
use crate::bus::{
    Batch, Cause, Client, ClientId, Delivery, Epoch, Generation, Maker, Message, Origin, Position,
    Room, Saved, SavedBatch, ServiceName, Tags, Topic,
};
use crate::client::identity::Identity;

const TTL: Duration = Duration::from_secs(1_000);

fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The bytes of a file of these histories, written at second 500 in these bounds.
fn written(all: &[Saved], bytes: u64, in_time: usize) -> (Vec<u8>, Encoded) {
    let (mut file, mut begun) = (Vec::new(), 0);
    let bounds = Bounds {
        bytes,
        is_late: &mut || {
            begun += 1;
            begun > in_time
        },
    };
    let encoded = encode(all, wall(500), &mut file, bounds).expect("a vector takes everything");
    (file, encoded)
}

fn file(all: &[Saved]) -> Vec<u8> {
    written(all, u64::MAX, usize::MAX).0
}

fn topic(key: &str) -> Topic {
    let kind: ServiceName = "chat".parse().expect("valid");
    Topic::from_service_to_ws(Room::new(&kind, key).expect("valid"))
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Unknown),
        any::<u64>().prop_map(|number| Origin::Service(Generation::new(number))),
        (0..9_u64, any::<Option<String>>()).prop_map(|(id, subject)| {
            let id = ClientId::new(id);
            let kind: ServiceName = "chat".parse().expect("valid");
            let topic = Topic::from_service_to_client(&kind, id);
            let identity = Identity {
                subject: subject.map(Into::into),
                ..Identity::default()
            };
            Origin::Client(Client::new(id, identity, topic))
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any::<String>().prop_map(Message::from),
        vec(any::<u8>(), 0..200).prop_map(Message::from),
    ]
}

fn tags() -> impl Strategy<Value = Tags> {
    vec(any::<(String, String)>(), 0..3).prop_map(|tags| tags.into_iter().collect())
}

prop_compose! {
    fn batch()(
        messages in vec(message(), 1..4),
        (origin, tags) in (origin(), tags()),
        (age, at) in (0..1_000_000_u64, any::<u32>()),
    ) -> SavedBatch {
        let batch = Batch::join(messages).expect("one at least");
        SavedBatch {
            batch: batch.from_origin(origin).tagged(tags),
            age: Duration::from_millis(age),
            at: SystemTime::UNIX_EPOCH + Duration::new(at.into(), at / 5),
        }
    }
}

prop_compose! {
    fn history()(
        key in "[ -~]{1,200}",
        (epoch, more, unused) in (any::<u64>(), 0..u64::MAX / 4, 0..1_000_000_u64),
        cause in prop_oneof![Just(Cause::Evicted), Just(Cause::Expired), Just(Cause::Removed)],
        (address, subject) in (any::<Option<std::net::IpAddr>>(), any::<Option<String>>()),
        (mut batches, ends) in (vec(batch(), 0..4), any::<bool>()),
    ) -> Saved {
        if let Some(last) = batches.last_mut().filter(|_| ends) {
            let end = Batch::from("{}").from_origin(last.batch.origin().clone());
            last.batch = end.delivered(Delivery::End);
        }
        let count: u64 = batches.iter().map(|saved| saved.batch.len() as u64).sum();
        let (epoch, offset) = (Epoch::from_bits(epoch), count + more);
        Saved {
            topic: topic(&key),
            position: Position { epoch, offset },
            cause,
            maker: Maker { address, subject: subject.map(Into::into) },
            is_live: false,
            unused: Duration::from_millis(unused),
            batches,
        }
    }
}

/// A small file with every kind of record.
fn small() -> (Vec<Saved>, Vec<u8>) {
    let identity = Identity {
        subject: Some("ann".into()),
        ..Identity::default()
    };
    let kind: ServiceName = "chat".parse().expect("valid");
    let id = ClientId::new(7);
    let client = Client::new(id, identity, Topic::from_service_to_client(&kind, id));
    let messages = [Message::text("hello"), Message::binary([1])];
    let batch = Batch::join(messages).expect("two");
    let saved = SavedBatch {
        batch: batch.from_origin(Origin::Client(client)),
        age: Duration::from_secs(3),
        at: wall(497),
    };
    let full = Saved {
        topic: topic("a"),
        position: Position {
            epoch: Epoch::from_bits(1 << 40),
            offset: 9,
        },
        cause: Cause::Expired,
        maker: Maker {
            address: Some([127, 0, 0, 1].into()),
            subject: Some("ann".into()),
        },
        is_live: false,
        unused: Duration::from_secs(2),
        batches: vec![saved],
    };
    let empty = Saved {
        topic: topic("b"),
        batches: Vec::new(),
        ..full.clone()
    };
    let all = vec![full, empty];
    let file = file(&all);
    (all, file)
}

/// The subjects of the senders, which are no part of their equality.
fn subjects(all: &[Saved]) -> Vec<Option<String>> {
    let batches = all.iter().flat_map(|saved| &saved.batches);
    let clients = batches.filter_map(|saved| saved.batch.origin().client().cloned());
    clients
        .map(|client| client.subject().map(str::to_owned))
        .collect()
}

proptest! {
    #[test]
    fn all_histories_come_back_as_they_were(all in vec(history(), 0..4)) {
        let (file, encoded) = written(&all, u64::MAX, usize::MAX);
        let again = decode(&file, wall(500), TTL);
        prop_assert_eq!(again.as_deref().map(subjects), Ok(subjects(&all)));
        prop_assert_eq!(again, Ok(all.clone()));
        let (histories, bytes) = (all.len(), file.len() as u64);
        prop_assert_eq!(encoded, Encoded { histories, left_out: 0, bytes });
    }

    #[test]
    fn the_newest_histories_that_fit_are_written_whole_and_no_byte_too_many(
        all in vec(history(), 0..5),
        part in 0.0..1.0_f64,
        in_time in 0..6_usize,
    ) {
        let whole = file(&all).len() - file(&[]).len();
        let room = file(&[]).len() + (whole as f64 * part) as usize;
        let (some, encoded) = written(&all, room as u64, in_time);
        prop_assert!(some.len() <= room);
        prop_assert_eq!(encoded.histories + encoded.left_out, all.len());
        prop_assert_eq!(encoded.bytes, some.len() as u64);
        let mut left = room;
        let mut expected: Vec<_> = all.iter().rev().filter(|saved| {
            let bytes = file(std::slice::from_ref(*saved)).len() - file(&[]).len();
            let fits = left >= file(&[]).len() + bytes;
            left -= if fits { bytes } else { 0 };
            fits
        }).take(in_time).cloned().collect();
        expected.reverse();
        // A late one takes no room, so that those after it are late as well.
        prop_assert_eq!(decode(&some, wall(500), TTL), Ok(expected));
    }

    #[test]
    fn no_bytes_are_taken_for_a_file_that_was_not_written(
        start in 0..500_usize,
        bytes in vec(any::<u8>(), 0..60),
    ) {
        let (all, mut file) = small();
        let start = start % file.len();
        let end = file.len().min(start + bytes.len());
        file[start..end].copy_from_slice(&bytes[..end - start]);
        if let Ok(read) = decode(&file, wall(500), TTL) {
            prop_assert_eq!(read, all);
        }
    }
}

#[test]
fn a_file_that_was_cut_or_goes_on_is_refused() {
    let (all, mut file) = small();
    assert_eq!(decode(&file, wall(500), TTL), Ok(all));
    for length in 0..file.len() {
        let cut = decode(&file[..length], wall(500), TTL);
        assert_eq!(cut, Err(Damage::Cut), "{length} bytes");
    }
    file.push(0);
    assert_eq!(decode(&file, wall(500), TTL), Err(Damage::Rest));
}

#[test]
fn a_single_wrong_bit_is_enough_to_refuse_all() {
    let (_all, mut file) = small();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let read = decode(&file, wall(500), TTL);
            assert!(read.is_err(), "bit {bit} of byte {at}: {read:?}");
            file[at] ^= 1 << bit;
        }
    }
}

#[test]
fn records_of_another_file_are_refused_although_each_is_whole() {
    let (all, file) = small();
    let only = |saved: &Saved| self::file(std::slice::from_ref(saved));
    let (one, other) = (only(&all[0]), only(&all[1]));
    assert_eq!(
        (&one[..HEAD], &other[..HEAD]),
        (&file[..HEAD], &file[..HEAD])
    );
    let body = |file: &[u8]| file[HEAD..file.len() - super::super::format::END].to_vec();
    let end = &one[one.len() - super::super::format::END..];
    let mixed = [&one[..HEAD], &body(&other), end].concat();
    assert_eq!(decode(&mixed, wall(500), TTL), Err(Damage::Checksum));
}

/// The small file in the layout before, without tags.
const SMALL_BEFORE: &str = "\
    YnVzbC1oaXMCAAAA9AEAAAAAAAAAAAAAP1I9XmhTAAAAAAAAABkAAAAAAAAAY2hhdDpiOmZyb20tc2VydmljZS10\
    by13cwAAAAAAAQAACQAAAAAAAAABBH8AAAEBAwAAAAAAAABhbm7QBwAAAAAAAAAAAAAAAAAAbxhCcGhTAAAAAAAA\
    ABkAAAAAAAAAY2hhdDphOmZyb20tc2VydmljZS10by13cwAAAAAAAQAACQAAAAAAAAABBH8AAAEBAwAAAAAAAABh\
    bm7QBwAAAAAAAAEAAAAAAAAATFBCV2JqAAAAAAAAAAIHAAAAAAAAABkAAAAAAAAAY2hhdDpmcm9tLXNlcnZpY2Ut\
    dG8td3M6NwEDAAAAAAAAAGFubrgLAAAAAAAA8QEAAAAAAAAAAAAAAgAAAAAAAAAABQAAAAAAAABoZWxsbwEBAAAA\
    AAAAAAEULSZtZQwAAAAAAAAAAgAAAAAAAAAhkCZG2Z7/KQ==";

#[test]
fn a_file_of_the_layout_before_is_read_and_has_no_tags() {
    let before = BASE64.decode(SMALL_BEFORE).expect("base64");
    assert_eq!(before[MAGIC.len()], 2, "its version");
    let (all, _file) = small();
    assert_eq!(decode(&before, wall(500), TTL), Ok(all));
}

#[test]
fn another_version_and_another_file_are_told_apart() {
    let (_all, mut file) = small();
    file[MAGIC.len()] += 1;
    let read = decode(&file, wall(500), TTL);
    assert_eq!(read, Err(Damage::Version(VERSION + 1)));
    file[0] += 1;
    assert_eq!(decode(&file, wall(500), TTL), Err(Damage::Foreign));
    assert_eq!(decode(&[], wall(500), TTL), Err(Damage::Cut));
}

#[test]
fn ages_go_on_by_the_time_between_and_never_back() {
    let (all, file) = small();
    for (now, passed) in [(500, 0), (499, 0), (0, 0), (501, 1), (1_500, 1_000)] {
        let read = decode(&file, wall(now), TTL).expect("it is not too old");
        let passed = Duration::from_secs(passed);
        for (before, after) in all.iter().zip(&read) {
            assert_eq!(after.unused, before.unused + passed, "at {now}");
            for (before, after) in before.batches.iter().zip(&after.batches) {
                assert_eq!(after.age, before.age + passed, "at {now}");
                assert_eq!(after.at, before.at);
            }
        }
    }
    let age = Duration::from_secs(1_001);
    let old = decode(&file, wall(1_501), TTL);
    assert_eq!(old, Err(Damage::Old { age, ttl: TTL }));
}

#[test]
fn an_age_is_rounded_up() {
    let (mut all, _file) = small();
    all[0].unused = Duration::from_nanos(1_000_001);
    let read = decode(&file(&all), wall(500), TTL).expect("it is whole");
    assert_eq!(read[0].unused, Duration::from_millis(2));
}

#[test]
fn a_position_beyond_all_sense_is_refused() {
    for offset in [0, 1, u64::MAX] {
        let (mut all, _file) = small();
        all[0].position.offset = offset;
        let read = decode(&file(&all), wall(500), TTL);
        assert_eq!(read, Err(Damage::Content("offset")), "{offset}");
    }
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let (all, _file) = small();
    let mut room = [0; 100];
    let bounds = Bounds {
        bytes: u64::MAX,
        is_late: &mut || false,
    };
    let full = encode(&all, wall(500), &mut &mut room[..], bounds);
    let kind = full.map_err(|error| error.kind());
    assert_eq!(kind, Err(io::ErrorKind::WriteZero));
}
