//! Arbitrary messages, cut into any fragments and chunks, are decoded to equal messages.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::wire::{ControlPayload, DataKind, Frame};

/// A message, and the way its client sends it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    kind: DataKind,
    payload: Vec<u8>,
    /// The positions where the message is cut into fragments.
    cuts: Vec<Index>,
    /// The masking keys of the frames, cyclically.
    keys: Vec<[u8; 4]>,
    /// The pings after the fragments, where present.
    pings: Vec<Option<Vec<u8>>>,
}

/// The bytes of a client, and the events that a server reads in them.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    events: Vec<Event>,
}

impl Sent {
    fn append_to(&self, stream: &mut Stream) {
        let mut ends: Vec<_> = self
            .cuts
            .iter()
            .map(|c| c.index(self.payload.len() + 1))
            .collect();
        ends.sort_unstable();
        let mut keys = self.keys.iter().cycle().copied();
        let mut key = || keys.next().expect("there is a key");
        let mut first = match self.kind {
            DataKind::Text => TEXT & !FIN,
            DataKind::Binary => BINARY & !FIN,
        };
        let mut start = 0;
        for (end, ping) in ends.into_iter().zip(&self.pings) {
            let fragment = &self.payload[start..end];
            stream.bytes.extend(client_frame(first, fragment, key()));
            if let Some(ping) = ping {
                stream.bytes.extend(client_frame(PING, ping, key()));
                let ping = ControlPayload::try_from(&ping[..]).expect("it is short");
                stream.events.push(Event::Ping(ping.into()));
            }
            first = CONTINUATION;
            start = end;
        }
        let last = &self.payload[start..];
        stream.bytes.extend(client_frame(first | FIN, last, key()));
        stream.events.push(super::message(self.frame()));
    }

    fn frame(&self) -> Frame {
        match self.kind {
            DataKind::Text => Frame::text(str::from_utf8(&self.payload).expect("it was a str")),
            DataKind::Binary => Frame::binary(&self.payload),
        }
    }
}

pub(super) fn stream(sent: &[Sent]) -> Stream {
    let mut stream = Stream::default();
    for message in sent {
        message.append_to(&mut stream);
    }
    stream
}

/// Generates messages of up to `long` bytes, mostly short ones.
pub(super) fn messages(long: usize) -> impl Strategy<Value = Vec<Sent>> {
    vec(message(long), 1..6)
}

fn message(long: usize) -> impl Strategy<Value = Sent> {
    let binary = prop_oneof![
        9 => vec(any::<u8>(), 0..long.min(300)),
        1 => (long - 10..long, any::<u8>()).prop_map(|(len, salt)| {
            (0..len).map(|i| (i / 3) as u8 ^ salt).collect()
        }),
    ];
    let text = ".{0,40}|[a-z\u{e9}\u{20ac}\u{1f98b}]{0,80}";
    let content = prop_oneof![
        binary.prop_map(|payload| (DataKind::Binary, payload)),
        text.prop_map(|text| (DataKind::Text, text.into_bytes())),
    ];
    let ping = prop::option::weighted(0.3, vec(any::<u8>(), 0..=125));
    let keys = vec(any::<[u8; 4]>(), 1..4);
    (content, vec(any::<Index>(), 0..5), keys, vec(ping, 5)).prop_map(
        |((kind, payload), cuts, keys, pings)| Sent {
            kind,
            payload,
            cuts,
            keys,
            pings,
        },
    )
}

/// Cuts `bytes` into chunks of the given sizes, cyclically.
fn chunks<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at((*size).min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn what_is_sent_is_read(
        sent in messages(65_545),
        sizes in vec(prop_oneof![1_usize..20, 1_usize..5000], 1..20),
    ) {
        let stream = stream(&sent);
        let outcome = decode_chunks(65_545, chunks(&stream.bytes, &sizes));
        prop_assert_eq!(&outcome.error, &None);
        prop_assert!(outcome.events == stream.events, "{:?}", outcome.events);
        let whole = decode_whole(65_545, &stream.bytes);
        prop_assert!(whole.events == stream.events, "{:?}", whole.events);
    }
}
