//! Marks: hard situations that a batch of runs must have reached to be worth something.

use std::collections::{BTreeMap, BTreeSet};

use crate::call_marks;
use crate::journal_marks;
use crate::plan::{Action, Plan, Way};
use crate::room_marks::RoomMarks;
use crate::script::Start;
use crate::trace::{Event, Held, Notice, Trace};
use crate::wild::{Deed, Head, Wild};

/// All marks there are.
pub const ALL: [&str; 100] = [
    "abandoned upgrade or refused client",
    "bandwidth step with clients",
    "call answered from its key",
    "call answered in a drain",
    "call sent again with its key",
    "call that closes clients",
    "call without an answer",
    "cause drained",
    "cause failed",
    "cause lost",
    "cause message_too_slow",
    "cause peer_closed",
    "cause protocol",
    "cause rate_exceeded",
    "cause silent",
    "cause slow_consumer",
    "cause stalled",
    "cause unwritable",
    "client closed by its room",
    "client of a history without recovery",
    "client of a relay served",
    "client served after a bounce",
    "client that waits for its rate",
    "clients of two rooms at one instant",
    "clients that the crash of an instance has left",
    "clock set back while timenow runs",
    "clock set forward while timenow runs",
    "close code that may not be sent",
    "close frames crossing",
    "compressed message",
    "crash during a handshake",
    "crash of a service within a batch",
    "crash with clients waiting",
    "crash with clients",
    "cut in one direction with clients",
    "drain while joining",
    "drain with a stalled client",
    "drain with rooms",
    "flood of pings",
    "history refused to a client",
    "inbox full",
    "instance aborted after its grace",
    "instance of a room aborted after its grace",
    "join while a room lingers",
    "join while a room stops",
    "join while stopping",
    "last client leaves as a first one comes",
    "latency step with clients",
    "live text of a backend",
    "loss and recovery of a slow consumer",
    "loss told in JSON",
    "loss told to a client of a history",
    "member left while its room starts again",
    "message at its limit",
    "message left out for a newer one",
    "message of a room whose client has gone",
    "message of an instance that has ended left out",
    "message over its limit by one",
    "message past a stalled client",
    "newest message first",
    "newest messages first",
    "no descriptors for a client that connects",
    "not recovered: ahead",
    "not recovered: epoch",
    "not recovered: evicted",
    "not recovered: expired",
    "not recovered: too many",
    "partial frame at the end",
    "planned restart with clients",
    "power loss with clients",
    "reading of a history by a client",
    "recovered",
    "recovered over a planned restart",
    "reply to a text with an id",
    "request answered by its service",
    "request dropped by its service",
    "request lost with its instance",
    "request not answered in time",
    "request refused by its service",
    "request that is no HTTP",
    "request that never ends",
    "request where no service runs",
    "reset during a blocked write",
    "response never taken",
    "restart told in JSON",
    "room crashed with clients there",
    "room made again after its end",
    "room made",
    "room refused at its bound",
    "room removed",
    "second attempt to connect that succeeds",
    "service that does not start",
    "service that starts slowly",
    "sessions that leave one after the other",
    "sip of a slow reader",
    "text of a backend where no client is",
    "window of one message overrun",
    "window overrun",
    "write blocked by a held link",
    "write blocked",
];

/// The marks that a run has reached.
pub fn reached(plan: &Plan, trace: &Trace) -> BTreeSet<&'static str> {
    let mut marks = Marks {
        wild: plan.wild.as_ref(),
        ..Marks::default()
    };
    let mut rooms = RoomMarks::default();
    for entry in trace.entries() {
        marks.now = entry.t;
        marks.take(&entry.event);
        let of_rooms = rooms.take(entry.t, &entry.event);
        marks.reached.extend(of_rooms);
    }
    marks.reached.extend(journal_marks::reached(plan, trace));
    marks.reached.extend(call_marks::reached(plan, trace));
    marks.reached
}

#[derive(Default)]
struct Marks<'a> {
    reached: BTreeSet<&'static str>,
    wild: Option<&'a Wild>,
    now: u64,
    /// Servers started.
    servers: u32,
    /// Connections that take nothing.
    blocked: BTreeSet<u32>,
    clients: BTreeMap<u32, Client>,
    /// How `script` starts.
    start: Start,
    /// Links that are held.
    held: BTreeSet<u8>,
    /// Services whose last client has left, and when.
    stops: BTreeMap<String, u64>,
    running: BTreeSet<String>,
}

/// What is known of one client.
#[derive(Default)]
struct Client {
    service: String,
    state: State,
    attempts: u32,
    leaving: Option<u16>,
    has_stopped: bool,
    has_resumed: bool,
    /// It has received something since.
    has_recovered: bool,
    is_partial: bool,
    sips: bool,
    head: Option<Head>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    Connected,
    Connecting,
    #[default]
    Gone,
}

impl Marks<'_> {
    fn take(&mut self, event: &Event) {
        match event {
            Event::AcceptFailed => {
                let connects = self.any(|client| client.state == State::Connecting);
                self.mark("no descriptors for a client that connects", connects);
            }
            Event::Acted { action } => self.acted(action),
            Event::Blocked { conn } => {
                self.blocked.insert(*conn);
                self.mark("write blocked", true);
                self.mark("write blocked by a held link", !self.held.is_empty());
            }
            Event::Failed { conn, error, .. } => {
                let is_reset = error == "ConnectionReset" && self.blocked.contains(conn);
                self.mark("reset during a blocked write", is_reset);
            }
            Event::Dropped { conn } => drop(self.blocked.remove(conn)),
            Event::Written { conn, data } => {
                self.blocked.remove(conn);
                // Most writes begin with a frame, and no other bytes of a response are these.
                let is_compressed = matches!(data.first(), Some(0xc1 | 0xc2));
                self.mark("compressed message", is_compressed);
                self.mark("room refused at its bound", is_room_full(data));
            }
            Event::Told { notice, .. } => match notice {
                Notice::Lagged { .. } => self.mark("loss told in JSON", true),
                Notice::Restarted { .. } => self.mark("restart told in JSON", true),
            },
            Event::Started => {
                self.servers += 1;
                self.blocked.clear();
                self.running.clear();
            }
            Event::Held(held) => self.held_at_the_end(held),
            Event::Log {
                message, fields, ..
            } => self.log(message, fields),
            Event::Status {
                service,
                state,
                clients,
                ..
            } => self.status(service, state, *clients),
            Event::Closed { .. }
            | Event::Connected { .. }
            | Event::Connecting { .. }
            | Event::Did { .. }
            | Event::Ended { .. }
            | Event::Leaving { .. }
            | Event::Received { .. }
            | Event::Refused { .. } => self.client(event),
            Event::Accepted { .. }
            | Event::Answered { .. }
            | Event::Called { .. }
            | Event::Finished { .. }
            | Event::Journal { .. }
            | Event::Noted { .. }
            | Event::Panicked { .. }
            | Event::Read { .. }
            | Event::ReadEnd { .. }
            | Event::Room { .. }
            | Event::Sent { .. }
            | Event::Served { .. }
            | Event::Shutdown { .. }
            | Event::Unanswered { .. } => {}
        }
    }

    fn any(&self, is_it: impl Fn(&Client) -> bool) -> bool {
        self.clients.values().any(is_it)
    }

    fn acted(&mut self, action: &Action) {
        let there = self.any(|client| client.state == State::Connected);
        let connects = self.any(|client| client.state == State::Connecting);
        match action {
            Action::Bandwidth { .. } => self.mark("bandwidth step with clients", there),
            Action::Crash | Action::PowerLoss => {
                self.mark("crash during a handshake", connects);
                let is_crash = *action == Action::Crash;
                self.mark("crash with clients", is_crash && there);
                self.mark("power loss with clients", !is_crash && there);
            }
            Action::Drain => {
                self.mark("drain while joining", connects);
                let is_there = |client: &&Client| client.state == State::Connected;
                let there = self.clients.values().filter(is_there).count();
                let paced = self
                    .wild
                    .is_some_and(|wild| wild.drain_per_second.is_some());
                self.mark(
                    "sessions that leave one after the other",
                    paced && there > 1,
                );
                let stalls = |c: &Client| c.state == State::Connected && c.has_stopped;
                let is_stalled = self.any(stalls) || !self.blocked.is_empty();
                self.mark("drain with a stalled client", is_stalled);
            }
            Action::Hold { zone } => drop(self.held.insert(*zone)),
            Action::Latency { .. } => self.mark("latency step with clients", there),
            Action::Partition { way, .. } => {
                let is_one = *way != Way::Both;
                self.mark("cut in one direction with clients", is_one && there);
            }
            Action::Restart => self.mark("planned restart with clients", there),
            Action::Release { zone } => drop(self.held.remove(zone)),
            Action::Start { how } => self.start = *how,
            Action::Wall { by_ms } => {
                let runs = self.running.contains("timenow");
                self.mark("clock set back while timenow runs", runs && *by_ms < 0);
                self.mark("clock set forward while timenow runs", runs && *by_ms > 0);
            }
            Action::Abort { .. }
            | Action::Act { .. }
            | Action::Bounce
            | Action::Call { .. }
            | Action::Connect { .. }
            | Action::Exhaust { .. }
            | Action::Leave { .. }
            | Action::Repair { .. }
            | Action::Text { .. } => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller hands over what concerns clients"
    )]
    fn client(&mut self, event: &Event) {
        let servers = self.servers;
        match event {
            Event::Connecting {
                client, service, ..
            } => {
                let client = self.clients.entry(*client).or_default();
                client.service.clone_from(service);
                client.state = State::Connecting;
                client.attempts += 1;
            }
            Event::Connected { client } => {
                let client = self.clients.entry(*client).or_default();
                client.state = State::Connected;
                let is_second = client.attempts > 1;
                self.mark("second attempt to connect that succeeds", is_second);
                self.mark("client served after a bounce", servers > 1);
            }
            Event::Refused { client, .. } => {
                let client = self.clients.entry(*client).or_default();
                client.state = State::Gone;
                let head = client.head;
                self.mark("abandoned upgrade or refused client", true);
                self.mark("request that is no HTTP", head == Some(Head::Garbage));
                let is_endless = matches!(head, Some(Head::Half | Head::Slow));
                self.mark("request that never ends", is_endless);
            }
            Event::Ended { client, .. } => {
                let client = self.clients.entry(*client).or_default();
                client.state = State::Gone;
                let is_partial = client.is_partial;
                self.mark("partial frame at the end", is_partial);
            }
            Event::Leaving { client, code } => {
                self.clients.entry(*client).or_default().leaving = Some(*code);
                let is_legal = crate::wild::is_legal_code(*code);
                self.mark("close code that may not be sent", !is_legal);
            }
            Event::Closed { client, code } => {
                let left = self.clients.entry(*client).or_default().leaving;
                let crossed = left.is_some_and(|own| *code == Some(1001) && own != 1001);
                self.mark("close frames crossing", crossed);
            }
            Event::Received { client, .. } => self.received(*client),
            Event::Did { client, deed } => self.did(*client, deed),
            _ => {}
        }
    }

    fn received(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        client.has_recovered |= client.has_resumed;
        let client = &self.clients[&number];
        let sips = client.sips;
        let is_stalled = |(other, there): (&u32, &Client)| {
            *other != number
                && there.state == State::Connected
                && there.has_stopped
                && there.service == client.service
        };
        let passes = self.clients.iter().any(is_stalled);
        self.mark("sip of a slow reader", sips);
        self.mark("message past a stalled client", passes);
    }

    fn did(&mut self, client: u32, deed: &Deed) {
        let message_bytes = self.wild.map_or(usize::MAX, |wild| wild.message_bytes);
        let client = self.clients.entry(client).or_default();
        match deed {
            Deed::Binary { bytes } => {
                self.mark("message at its limit", *bytes == message_bytes);
                let is_over = *bytes == message_bytes.saturating_add(1);
                self.mark("message over its limit by one", is_over);
            }
            Deed::Flood { .. } => self.mark("flood of pings", true),
            Deed::Opening { head } => client.head = Some(*head),
            Deed::Partial => client.is_partial = true,
            Deed::Resume => {
                client.has_resumed |= client.has_stopped;
                client.has_stopped = false;
            }
            Deed::Sip { .. } => client.sips = true,
            Deed::Stop => client.has_stopped = true,
            Deed::Ask { .. }
            | Deed::Fragments { .. }
            | Deed::HalfClose
            | Deed::Offend { .. }
            | Deed::Ping
            | Deed::Reset
            | Deed::Speak { .. }
            | Deed::Trickle { .. }
            | Deed::Vanish
            | Deed::Read { .. }
            | Deed::Tell { .. }
            | Deed::Wish { .. } => {}
        }
    }

    fn status(&mut self, service: &str, state: &str, clients: usize) {
        self.mark("join while stopping", state == "stopping" && clients > 0);
        let is_crash = state == "backoff" && clients > 0;
        self.mark("crash with clients waiting", is_crash);
        let is_dud = matches!(self.start, Start::Panics | Start::Returns);
        let is_script = service == "script";
        self.mark(
            "service that does not start",
            is_crash && is_script && is_dud,
        );
        if state == "running" {
            self.running.insert(service.to_owned());
        } else {
            self.running.remove(service);
        }
    }

    fn held_at_the_end(&mut self, held: &Held) {
        self.mark("window overrun", held.lost_lagged > 0);
        let is_one = self.wild.is_some_and(|wild| wild.window_messages == 1);
        self.mark(
            "window of one message overrun",
            is_one && held.lost_lagged > 0,
        );
        self.mark("inbox full", held.lost_not_taken > 0);
        self.mark("client that waits for its rate", held.pauses > 0);
        let is_superseded = held.lost_superseded > 0;
        self.mark("message left out for a newer one", is_superseded);
        let left_out = "message of an instance that has ended left out";
        self.mark(left_out, held.stale > 0);
        let has_recovered = self.any(|client| client.has_recovered);
        let recovery = "loss and recovery of a slow consumer";
        self.mark(recovery, held.lost_lagged > 0 && has_recovered);
    }

    fn log(&mut self, message: &str, fields: &BTreeMap<&'static str, String>) {
        let service = fields.get("service").map_or("", String::as_str);
        match message {
            "service stops" => drop(self.stops.insert(service.to_owned(), self.now)),
            "service started" => {
                let is_slow = self.start == Start::Slowly && service == "script";
                self.mark("service that starts slowly", is_slow);
                let stopped = self.stops.get(service).copied();
                let is_race = stopped.is_some_and(|t| self.now - t <= 1_000);
                self.mark("last client leaves as a first one comes", is_race);
            }
            "upgrade took too long" => self.mark("response never taken", true),
            "session closed" => {
                let cause = fields.get("cause").map_or("", String::as_str);
                for mark in ALL {
                    let of = mark.strip_prefix("cause ");
                    self.mark(mark, of.is_some_and(|of| cause.starts_with(of)));
                }
            }
            _ => {
                let aborted = message.starts_with("service did not return");
                self.mark("instance aborted after its grace", aborted);
            }
        }
    }

    fn mark(&mut self, mark: &'static str, is_reached: bool) {
        debug_assert!(ALL.contains(&mark), "{mark} is not listed");
        if is_reached {
            self.reached.insert(mark);
        }
    }
}

/// Whether it is a response that refuses a client for a bound of rooms.
fn is_room_full(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    text.starts_with("HTTP/1.1 503") && text.contains("rooms")
}
