//! Readers of events that are cut off at any byte and come back: each has every message once, or is
//! told that some are missing.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use busline::app::App;
use busline::limits::{RelayPolicy, Retention, SlowConsumer, Window};
use busline::rt::Spawn;
use busline::session::{Admission, AdmitError, Asking, Session, Subprotocol, Wish};
use busline::{Limits, Message, Peer as Who, ServicePolicy};
use futures::FutureExt;

use super::bytes::Bytes;
use super::executor::Manual;
use super::peer::{Peer, Said};

/// Something that a reader, its connection or the room does; the first number is a reader's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// So many tenths of a second pass.
    Advance(u8),
    /// The reader comes, or comes back as an `EventSource` does.
    Come(u8),
    /// The connection breaks.
    Cut(u8),
    /// The stream of the room ends.
    End,
    /// A message for those who are there, which no history keeps.
    Live(u8),
    /// A message of this kind.
    Publish(u8),
    /// All messages are removed from the history.
    Remove,
    /// The socket takes so many more bytes.
    Room(u8, u8),
    /// One task that is ready runs.
    Run(u8),
    Settle,
}

impl Op {
    /// The next operation of a fuzzer's bytes.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let kind = bytes.below(16)?;
        let n = bytes.next()?;
        Some(match kind {
            0 => Self::Advance(n),
            1 | 2 => Self::Come(n),
            3 | 4 => Self::Cut(n),
            5 if n < 16 => Self::End,
            6 => Self::Live(n),
            7 if n < 32 => Self::Remove,
            8..=10 => Self::Room(n, bytes.next()?),
            11 => Self::Run(n),
            12 => Self::Settle,
            _ => Self::Publish(n),
        })
    }
}

/// The body of the fuzz target: a byte of policy, then operations.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(policy) = bytes.below(2) else {
        return;
    };
    let ops: Vec<_> = std::iter::from_fn(|| Op::read(&mut bytes)).collect();
    run(policy == 0, &ops);
}

/// Applies the operations; `recovers` says whether slow readers read on from the history.
pub(crate) fn run(recovers: bool, ops: &[Op]) {
    let mut world = World::new(recovers);
    for op in ops {
        world.apply(*op);
    }
    world.end();
}

/// The texts that messages begin with: those that a stream of events might mistake.
const TEXTS: [&str; 10] = [
    "",
    "plain",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "\n\n",
    "id: x:9\n\ndata: y",
    ": c",
    " s",
    "\u{feff}\u{1f600}",
];

const READERS: usize = 3;

/// A text as a page receives it: each line end is a line feed.
fn received(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A page with an `EventSource`.
#[derive(Default)]
struct Reader {
    peer: Option<Peer>,
    /// The events of this connection that were looked at.
    seen: usize,
    last_id: Option<String>,
    /// The offset of the last message.
    offset: Option<u64>,
    /// Whether messages may be missing before the next one: the server has said so, or the reader
    /// has had none yet.
    may_miss: bool,
    has_ended: bool,
}

struct World {
    rt: Manual,
    app: App<Manual>,
    readers: [Reader; READERS],
    /// The texts of all messages by their offsets.
    published: BTreeMap<u64, String>,
    count: u64,
    has_ended: bool,
}

impl World {
    fn new(recovers: bool) -> Self {
        let rt = Manual::default();
        let retention = Retention {
            messages: NonZeroUsize::new(6).expect("not 0"),
            bytes: 1 << 16,
            ttl: Duration::from_secs(20),
            recovery_max: None,
        };
        let window = Window {
            messages: NonZeroUsize::new(4).expect("not 0"),
            ..Window::default()
        };
        let slow_consumer = match recovers {
            true => SlowConsumer::Recover,
            false => SlowConsumer::Skip,
        };
        let policy = ServicePolicy {
            slow_consumer,
            window: Some(window),
            ..ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention)
        };
        let limits = Limits {
            outbox_bytes: 64,
            ..Limits::default()
        };
        let app = App::builder(rt.clone()).limits(limits);
        Self {
            app: app
                .relay_with("news", policy)
                .expect("a valid policy")
                .build(),
            rt,
            readers: Default::default(),
            published: BTreeMap::new(),
            count: 0,
            has_ended: false,
        }
    }

    fn apply(&mut self, op: Op) {
        let reader = |n: u8| usize::from(n) % READERS;
        match op {
            Op::Advance(tenths) => self
                .rt
                .advance(Duration::from_millis(u64::from(tenths) * 100)),
            Op::Come(n) => self.come(reader(n)),
            Op::Cut(n) => self.cut(reader(n)),
            Op::End => {
                let room = self.app.room("news", "a").expect("a room");
                self.has_ended |= room.end("{\"n\":1}").is_ok();
            }
            Op::Live(n) => self.publish(n, false),
            Op::Publish(n) => self.publish(n, true),
            Op::Remove => {
                let room = self.app.room("news", "a").expect("a room");
                room.remove_history();
            }
            Op::Room(n, bytes) => {
                if let Some(peer) = &self.readers[reader(n)].peer {
                    peer.make_room(usize::from(bytes));
                }
            }
            Op::Run(choice) => drop(self.rt.run_one(usize::from(choice))),
            Op::Settle => self.rt.settle(),
        }
        self.read_all();
    }

    fn publish(&mut self, n: u8, is_kept: bool) {
        self.count += 1;
        let text = TEXTS[usize::from(n) % TEXTS.len()];
        let text = format!(
            "{text}{}",
            if is_kept {
                self.count.to_string()
            } else {
                "live".into()
            }
        );
        let room = self.app.room("news", "a").expect("a room");
        let batch = busline::bus::Batch::from(Message::text(&text));
        if is_kept {
            if let Some(position) = room.record(batch) {
                self.published.insert(position.offset, received(&text));
            }
        } else {
            room.publish(batch.live());
        }
    }

    fn come(&mut self, n: usize) {
        let reader = &mut self.readers[n];
        if reader.peer.is_some() || reader.has_ended {
            return;
        }
        let since = reader
            .last_id
            .as_deref()
            .map(|id| id.parse().expect("an id is a position"));
        let asking = Asking {
            subprotocol: Subprotocol::Events,
            wish: Wish { since, last: 0 },
            join_leave: false,
        };
        let room = self.app.registry().room("news", Some("a")).expect("a key");
        match Admission::request_wishing(&self.app, &room, Who::default(), asking) {
            Ok(admission) => {
                let peer = Peer::default();
                let session = Session::new(admission, peer.socket());
                self.rt.spawn(session.map(drop).boxed());
                (reader.peer, reader.seen) = (Some(peer), 0);
                // Without an id nothing is promised of what came before.
                reader.may_miss |= reader.last_id.is_none();
            }
            // Only a reader that has the end is told so.
            Err(AdmitError::Ended) => {
                let room = self.app.room("news", "a").expect("a room");
                let position = room.position().expect("a history").to_string();
                assert_eq!(reader.last_id, Some(position), "it lacks something");
                reader.has_ended = true;
            }
            Err(error) => panic!("refused: {error}"),
        }
    }

    fn cut(&mut self, n: usize) {
        self.readers[n].read(&self.published);
        if let Some(peer) = self.readers[n].peer.take() {
            peer.reset();
        }
    }

    fn read_all(&mut self) {
        for reader in &mut self.readers {
            reader.read(&self.published);
        }
    }

    /// All readers come back and read on: each has what the history still has.
    fn end(mut self) {
        for n in 0..READERS {
            self.cut(n);
            self.rt.settle();
            self.come(n);
            if let Some(peer) = &self.readers[n].peer {
                peer.make_room(1 << 20);
            }
        }
        self.rt.settle();
        self.read_all();
        let top = self.published.keys().next_back().copied();
        for reader in self.readers.iter().filter(|reader| reader.offset.is_some()) {
            let has_all = reader.offset == top || reader.may_miss;
            assert!(has_all, "{:?} of {top:?}", reader.offset);
            assert_eq!(reader.has_ended, self.has_ended, "the end is told");
        }
        // The tasks hold the application, and the application its runtime, which holds the tasks.
        self.rt.shut_down();
    }
}

impl Reader {
    /// Looks at the events that have come whole since the last look.
    fn read(&mut self, published: &BTreeMap<u64, String>) {
        let Some(peer) = &self.peer else {
            return;
        };
        peer.check();
        let said = peer.said().into_iter();
        let events: Vec<String> = said
            .filter_map(|said| match said {
                Said::Text(text) => Some(text),
                Said::Binary(_) => panic!("events are text"),
                Said::Close(_) | Said::Ping | Said::Pong(_) => None,
            })
            .collect();
        let new = events[self.seen..].to_vec();
        self.seen = events.len();
        new.iter().for_each(|event| self.take(event, published));
    }

    /// Takes an event as HTML tells it: an id holds with the whole event.
    fn take(&mut self, event: &str, published: &BTreeMap<u64, String>) {
        assert!(!self.has_ended, "{event:?} comes after the end");
        let event = event
            .strip_suffix("\n\n")
            .expect("an empty line ends an event");
        assert!(!event.contains("\n\n"), "{event:?} is two");
        let (mut id, mut kind, mut data) = (None, "message", Vec::new());
        for line in event.split('\n') {
            match line.split_once(": ").expect("a field") {
                ("id", value) => id = Some(value),
                ("event", value) => kind = value,
                ("data", value) => data.push(value),
                field => panic!("no field of events: {field:?}"),
            }
        }
        let data = data.join("\n");
        match kind {
            "message" => self.message(id, &data, published),
            "recovered" => self.may_miss |= data.contains("\"recovered\":false"),
            "lagged" => self.may_miss = true,
            "end" => self.has_ended = true,
            "position" => {}
            kind => panic!("no event of this kind: {kind}"),
        }
        if let Some(id) = id {
            self.last_id = Some(id.to_owned());
        }
    }

    fn message(&mut self, id: Option<&str>, data: &str, published: &BTreeMap<u64, String>) {
        let Some(id) = id else {
            assert!(data.ends_with("live"), "{data:?} has no id");
            return;
        };
        let (_epoch, offset) = id.split_once(':').expect("an id is a position");
        let offset: u64 = offset.parse().expect("a number");
        assert_eq!(
            published.get(&offset).map(String::as_str),
            Some(data),
            "{offset}"
        );
        let last = self.offset.replace(offset);
        let is_next = last.is_none_or(|last| offset == last + 1);
        let is_later = last.is_none_or(|last| offset > last);
        assert!(is_later, "{offset} comes after {last:?}");
        assert!(
            is_next || self.may_miss,
            "{offset} comes after {last:?}, and no loss is told"
        );
        self.may_miss = false;
    }
}
