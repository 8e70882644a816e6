//! Rooms over a runtime driven by hand: whoever comes, speaks, crashes and dies, each instance is
//! told who is there, no message reaches another room, and a room that is over leaves nothing.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busline::app::App;
use busline::bus::Room;
use busline::registry::State;
use busline::rt::Spawn;
use busline::service::Event;
use busline::session::{Admission, Session};
use busline::{Context, Peer as Who, ServicePolicy};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};

use super::bytes::Bytes;
use super::executor::Manual;
use super::peer::{Peer, Said};

/// Something that happens to the rooms of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// So many tenths of a second pass.
    Advance(u8),
    Drain,
    /// A client joins the room with this key.
    Enter(u8),
    /// A client leaves: it closes, resets, or its session is dropped.
    Go(u8, Way),
    /// One task that is ready runs.
    Run(u8),
    /// A client says this to its room.
    Say(u8, Word),
    /// Every task runs until none is ready, in an order of the seed's.
    Settle(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Close,
    Drop,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The instance ends by an error.
    Crash,
    Hello,
    /// The instance sleeps for a second.
    Rest,
}

impl Word {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Crash => b"crash",
            Self::Hello => b"hello",
            Self::Rest => b"rest",
        }
    }
}

impl Op {
    /// The next operation of a fuzzer's bytes.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(match bytes.below(10)? {
            0 => Self::Advance(bytes.next()?),
            1 if bytes.below(16)? == 0 => Self::Drain,
            1..=3 => Self::Enter(bytes.next()?),
            4 => {
                let client = bytes.next()?;
                let ways = [Way::Close, Way::Drop, Way::Reset];
                Self::Go(client, ways[usize::from(bytes.below(3)?)])
            }
            5 | 6 => Self::Run(bytes.next()?),
            7 | 8 => {
                let client = bytes.next()?;
                let words = [Word::Hello, Word::Hello, Word::Rest, Word::Crash];
                Self::Say(client, words[usize::from(bytes.below(4)?)])
            }
            _ => Self::Settle(bytes.next()?),
        })
    }
}

/// The body of the fuzz target.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let ops = std::iter::from_fn(|| Op::read(&mut bytes)).take(200);
    run(&ops.collect::<Vec<_>>());
}

/// Applies the operations to a new application, then ends it, and checks everything on the way.
pub(crate) fn run(ops: &[Op]) {
    let mut lobby = Lobby::new();
    for op in ops {
        lobby.apply(*op);
        lobby.check();
    }
    lobby.end();
}

/// The keys of the rooms: few, so that clients meet.
const KEYS: [&str; 3] = ["a", "b b", "from-service-to-ws:1"];

/// The times after which nothing is left to wait for: linger, backoff, cool-down, close.
const ALL_TIMES: Duration = Duration::from_secs(200);

/// A room as its instances saw it.
#[derive(Default)]
struct Seen {
    generation: u64,
    /// The clients that are there as the present instance was told.
    there: BTreeSet<u64>,
    /// The clients that have left as it was told.
    departed: BTreeSet<u64>,
    is_running: bool,
    is_resting: bool,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<BTreeMap<String, Seen>>>);

impl Log {
    fn of<T>(&self, key: &str, look: impl FnOnce(&mut Seen) -> T) -> T {
        let mut rooms = self.0.lock().expect("no panic under this lock");
        look(rooms.entry(key.to_owned()).or_default())
    }

    fn start(&self, ctx: &Context) {
        let there = ctx.clients().into_iter();
        let there = there.map(|client| client.id().number()).collect();
        let generation = ctx.generation().number();
        self.of(ctx.key(), |seen| {
            assert!(!seen.is_running, "a second instance of `{}`", ctx.key());
            assert!(generation > seen.generation, "a generation twice");
            *seen = Seen {
                generation,
                there,
                is_running: true,
                ..Seen::default()
            };
        });
    }

    fn note(&self, ctx: &Context, event: &Event) {
        self.of(ctx.key(), |seen| match event {
            Event::Joined(client) => {
                let id = client.id().number();
                assert!(!seen.departed.contains(&id), "{id} joined after it left");
                assert!(seen.there.insert(id), "{id} joined twice");
            }
            Event::Left(client, _reason) => {
                let id = client.id().number();
                assert!(seen.there.remove(&id), "{id} left and was not there");
                assert!(seen.departed.insert(id), "{id} left twice");
            }
            Event::Message(client, _message) => {
                let id = client.id().number();
                assert!(seen.there.contains(&id), "{id} spoke and was not there");
            }
            Event::Request(request) => unreachable!("{} was asked", request.method),
        });
        let known = ctx.clients().into_iter();
        let known: BTreeSet<_> = known.map(|client| client.id().number()).collect();
        self.of(ctx.key(), |seen| assert_eq!(known, seen.there));
    }
}

/// Ends the record of an instance, however the instance ends.
struct Running(Log, String);

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.of(&self.1, |seen| seen.is_running = false);
        }
    }
}

async fn serve(mut ctx: Context, log: Log) -> Result<(), &'static str> {
    log.start(&ctx);
    let _running = Running(log.clone(), ctx.key().to_owned());
    while let Some(event) = ctx.event().await {
        log.note(&ctx, &event);
        let Event::Message(client, message) = event else {
            continue;
        };
        ctx.publish(format!("{}|{client}", ctx.key()));
        match message.as_text() {
            Some("crash") => return Err("asked to"),
            Some("rest") => {
                log.of(ctx.key(), |seen| seen.is_resting = true);
                let rested = ctx.sleep(Duration::from_secs(1)).await;
                log.of(ctx.key(), |seen| seen.is_resting = false);
                if rested.is_none() {
                    continue;
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

struct Client {
    key: &'static str,
    peer: Peer,
    /// Drops the session.
    handle: AbortHandle,
}

struct Lobby {
    rt: Manual,
    app: App<Manual>,
    log: Log,
    clients: Vec<Client>,
    draining: bool,
}

impl Lobby {
    fn new() -> Self {
        let rt = Manual::default();
        let log = Log::default();
        let noted = log.clone();
        let service = move |ctx: Context| serve(ctx, noted.clone());
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.linger = Duration::from_secs(1);
        let app = App::builder(rt.clone()).room_with("chat", service, policy);
        Self {
            app: app.expect("a valid name").build(),
            rt,
            log,
            clients: Vec::new(),
            draining: false,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Advance(tenths) => self.rt.advance(Duration::from_millis(100) * tenths.into()),
            Op::Drain => {
                self.draining = true;
                self.app.drain();
            }
            Op::Enter(key) => self.enter(KEYS[usize::from(key) % KEYS.len()]),
            Op::Go(client, way) => self.go(client, way),
            Op::Run(choice) => drop(self.rt.run_one(choice.into())),
            Op::Say(client, word) => {
                if let Some(client) = self.pick(client) {
                    client.peer.send(true, 1, word.text());
                }
            }
            Op::Settle(seed) => self.rt.settle_by(seed.into()),
        }
    }

    fn pick(&self, client: u8) -> Option<&Client> {
        let index = usize::from(client).checked_rem(self.clients.len())?;
        self.clients.get(index)
    }

    fn room(&self, key: &str) -> Room {
        let room = self.app.registry().room("chat", Some(key));
        room.expect("a key")
    }

    fn enter(&mut self, key: &'static str) {
        let admission = Admission::request_room(&self.app, &self.room(key), Who::default());
        let Ok(admission) = admission else {
            return;
        };
        assert!(!self.draining, "a client that should have been refused");
        let peer = Peer::default();
        peer.make_room(1 << 20);
        let session = Session::new(admission, peer.socket());
        let (handle, registration) = AbortHandle::new_pair();
        let session = Abortable::new(session, registration);
        self.rt.spawn(session.map(drop).boxed());
        self.clients.push(Client { key, peer, handle });
    }

    fn go(&self, client: u8, way: Way) {
        let Some(client) = self.pick(client) else {
            return;
        };
        match way {
            Way::Close => client.peer.send(true, 8, &1000_u16.to_be_bytes()),
            Way::Drop => client.handle.abort(),
            Way::Reset => client.peer.reset(),
        }
    }

    /// Checks the conditions that hold at any time.
    fn check(&self) {
        let registry = self.app.registry();
        for client in &self.clients {
            for said in client.peer.said() {
                if let Said::Text(text) = said {
                    let of = text.rsplit_once('|').map(|(key, _)| key);
                    assert_eq!(of, Some(client.key), "from another room");
                }
            }
        }
        let rooms = KEYS.map(|key| registry.room_status(&self.room(key)));
        let there = rooms.iter().flatten().count();
        assert_eq!(registry.rooms_open(), there);
        let clients: usize = rooms.iter().flatten().map(|room| room.clients).sum();
        let status = registry.kind_status("chat").expect("registered");
        assert_eq!(status.clients, clients as u64, "the kind adds its rooms up");
    }

    /// Checks, once nothing is ready, that each instance knows the clients of its room.
    fn check_told(&self) {
        self.rt.settle();
        for key in KEYS {
            let status = self.app.registry().room_status(&self.room(key));
            let Some(status) = status.filter(|status| status.state == State::Running) else {
                continue;
            };
            self.log.of(key, |seen| {
                if seen.is_running && !seen.is_resting {
                    assert_eq!(seen.there.len(), status.clients, "`{key}`: {status:?}");
                }
            });
        }
    }

    fn end(mut self) {
        self.check_told();
        for client in &self.clients {
            client.peer.reset();
        }
        self.rt.advance(ALL_TIMES);
        self.check();
        self.clients.clear();
        assert_eq!(self.app.registry().rooms_open(), 0, "a room is kept");
        let status = self.app.registry().kind_status("chat").expect("registered");
        assert_eq!((status.rooms, status.clients), (0, 0));
        assert_eq!(status.counts.starts, status.counts.exits);
        assert_eq!(self.app.counts().bus.topics, 0, "a topic is kept");
        assert_eq!((self.rt.tasks(), self.rt.timers()), (0, 0));
    }
}
