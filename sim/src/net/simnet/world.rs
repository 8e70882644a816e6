//! Every connection, and every event that is still to come.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::link::{Key, Link};
use super::pipe::{End, Pipe};
use crate::net::Fault;
use crate::plan::Network;
use crate::rng::Rng;
use crate::wild::{Lengths, Tcp};

/// Most bytes of one segment.
const SEGMENT_BYTES_MAX: usize = 1460;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

pub(super) struct World {
    seed: u64,
    tcp: Tcp,
    network: Network,
    links: BTreeMap<u8, Link>,
    conns: Vec<Conn>,
    /// By time, and in the order in which they were made.
    events: BTreeMap<Key, Event>,
    made: u64,
    power: Power,
    backlog: VecDeque<usize>,
    accept: Accept,
    driver: Option<Waker>,
    /// The time for which the driver has set its timer.
    armed: Option<Duration>,
    wakes: Vec<Waker>,
    /// Replaced, to be dropped where nothing is borrowed.
    replaced: Vec<Waker>,
}

/// Whether the server's machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Off,
    On,
}

enum Accept {
    Closed,
    Idle,
    Waiting(Waker),
}

struct Conn {
    zone: u8,
    opening: Opening,
    up: Pipe,
    down: Pipe,
    /// What the client sent to a dark machine.
    late: Late,
}

/// What is sent again until a dark machine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Connect,
    Data,
    Nothing,
}

enum Opening {
    Done,
    Refused,
    Under(Option<Waker>),
}

pub(super) struct Event {
    conn: usize,
    /// Who sent it.
    from: Side,
    what: What,
}

enum What {
    Connect,
    Connected,
    Data(Vec<u8>),
    End,
    Refused,
    Reset,
    /// The reader has taken this many bytes.
    Room(usize),
}

impl Conn {
    /// The direction in which this side writes.
    fn pipe(&mut self, writer: Side) -> &mut Pipe {
        match writer {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, network: &Network, tcp: &Tcp) -> Self {
        Self {
            seed,
            tcp: tcp.clone(),
            network: network.clone(),
            links: BTreeMap::new(),
            conns: Vec::new(),
            events: BTreeMap::new(),
            made: 0,
            power: Power::On,
            backlog: VecDeque::new(),
            accept: Accept::Idle,
            driver: None,
            armed: None,
            wakes: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Who is to be woken, and wakers to be dropped.
    pub(super) fn take_wakes(&mut self) -> [Vec<Waker>; 2] {
        [
            std::mem::take(&mut self.wakes),
            std::mem::take(&mut self.replaced),
        ]
    }

    /// Delivers what is due, and returns when the next is.
    pub(super) fn deliver(&mut self, now: Duration, driver: &Waker) -> Option<Duration> {
        self.driver = Some(driver.clone());
        while let Some(first) = self.events.first_entry()
            && first.key().0 <= now
        {
            let (key, event) = first.remove_entry();
            let (conn, from) = (event.conn, event.from);
            let link = self.link(self.conns[conn].zone);
            let is_lost = link.loses(from);
            let Some(event) = link.hold(key, event) else {
                continue;
            };
            if is_lost {
                // What follows it is of no use to the other side.
                self.conns[conn].pipe(from).is_dead = true;
            } else {
                self.arrive(now, event);
            }
        }
        self.armed = self.events.first_key_value().map(|((at, _), _)| *at);
        self.armed
    }

    pub(super) fn strike(&mut self, zone: u8, fault: Fault) {
        let released = self.link(zone).strike(fault);
        if !released.is_empty() {
            // At the places they had, so that nothing overtakes them.
            self.events.extend(released);
            self.wakes.extend(self.driver.take());
        }
    }

    fn link(&mut self, zone: u8) -> &mut Link {
        let link = || Link::new(&self.network, &self.tcp);
        self.links.entry(zone).or_insert_with(link)
    }

    /// The server's machine loses its power.
    pub(super) fn darken(&mut self) {
        self.power = Power::Off;
    }

    /// The server listens, and answers what was sent to it while it was dark.
    pub(super) fn listen(&mut self, now: Duration) {
        self.accept = Accept::Idle;
        self.power = Power::On;
        for conn in 0..self.conns.len() {
            match std::mem::replace(&mut self.conns[conn].late, Late::Nothing) {
                Late::Connect => self.send(now, (conn, Side::Client), What::Connect),
                Late::Data => self.send(now, (conn, Side::Server), What::Reset),
                Late::Nothing => {}
            }
        }
    }

    pub(super) fn dial(&mut self, now: Duration, zone: u8, client: u32) -> usize {
        let credit = self.tcp.receive_bytes;
        let (seed, number) = (self.seed, u64::from(client) * 2);
        let up = Pipe::new(credit, |name| Rng::keyed(seed, name, number));
        let down = Pipe::new(credit, |name| Rng::keyed(seed, name, number + 1));
        let conn = self.conns.len();
        self.conns.push(Conn {
            zone,
            opening: Opening::Under(None),
            up,
            down,
            late: Late::Nothing,
        });
        self.send(now, (conn, Side::Client), What::Connect);
        conn
    }

    pub(super) fn poll_connected(
        &mut self,
        cx: &mut Context<'_>,
        conn: usize,
    ) -> Poll<io::Result<()>> {
        match &mut self.conns[conn].opening {
            Opening::Done => Poll::Ready(Ok(())),
            Opening::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            Opening::Under(waker) => {
                self.replaced.extend(waker.replace(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(usize, u8)> {
        if let Some(conn) = self.backlog.pop_front() {
            return Poll::Ready((conn, self.conns[conn].zone));
        }
        self.accept = Accept::Waiting(cx.waker().clone());
        Poll::Pending
    }

    /// The server listens no more; who was not accepted is reset.
    pub(super) fn unlisten(&mut self, now: Duration) {
        self.accept = Accept::Closed;
        while let Some(conn) = self.backlog.pop_front() {
            self.reset(now, conn, Side::Server);
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Duration,
        (conn, side): (usize, Side),
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let lengths = self.tcp.lengths;
        let pipe = self.conns[conn].pipe(side.other());
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !pipe.receive.is_empty() {
            let most = pipe.receive.len().min(buffer.remaining());
            let taken = shorten(lengths, &mut pipe.at_the_ends, most);
            let (front, back) = pipe.receive.as_slices();
            let from_front = taken.min(front.len());
            buffer.put_slice(&front[..from_front]);
            buffer.put_slice(&back[..taken - from_front]);
            pipe.receive.drain(..taken);
            self.send(now, (conn, side), What::Room(taken));
            return Poll::Ready(Ok(()));
        }
        if pipe.reader == End::Reset {
            pipe.reader = End::Finished;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.is_ended || pipe.reader == End::Finished {
            return Poll::Ready(Ok(()));
        }
        self.replaced
            .extend(pipe.read_waker.replace(cx.waker().clone()));
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Duration,
        (conn, side): (usize, Side),
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (lengths, send_bytes) = (self.tcp.lengths, self.tcp.send_bytes);
        let pipe = self.conns[conn].pipe(side);
        match pipe.writer {
            End::Open => {}
            End::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            End::Dropped | End::Finished => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        let room = send_bytes.saturating_sub(pipe.send.len()).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            self.replaced
                .extend(pipe.write_waker.replace(cx.waker().clone()));
            return Poll::Pending;
        }
        let taken = shorten(lengths, &mut pipe.at_the_ends, room);
        pipe.send.extend(&bytes[..taken]);
        self.pump(now, conn, side);
        Poll::Ready(Ok(taken))
    }

    /// This side writes no more.
    pub(super) fn finish(&mut self, now: Duration, conn: usize, side: Side) {
        let pipe = self.conns[conn].pipe(side);
        if pipe.writer == End::Open {
            pipe.writer = End::Finished;
            self.pump(now, conn, side);
        }
    }

    /// This side's socket is dropped: what it wrote is still sent, unless it left something unread.
    pub(super) fn close(&mut self, now: Duration, conn: usize, side: Side) {
        if side == Side::Server && self.power == Power::Off {
            return self.bury(conn, side);
        }
        let incoming = self.conns[conn].pipe(side.other());
        if incoming.reader == End::Dropped {
            return;
        }
        if incoming.receive.is_empty() {
            incoming.reader = End::Dropped;
            let outgoing = self.conns[conn].pipe(side);
            if matches!(outgoing.writer, End::Open | End::Finished) {
                outgoing.writer = End::Dropped;
            }
            self.pump(now, conn, side);
        } else {
            self.reset(now, conn, side);
        }
    }

    /// This side drops its socket and everything that it wrote.
    pub(super) fn reset(&mut self, now: Duration, conn: usize, side: Side) {
        self.bury(conn, side);
        self.send(now, (conn, side), What::Reset);
    }

    /// This side is gone without a trace, and nothing passes any more.
    pub(super) fn vanish(&mut self, conn: usize) {
        self.bury(conn, Side::Client);
        self.conns[conn].up.is_dead = true;
        self.conns[conn].down.is_dead = true;
    }

    fn bury(&mut self, conn: usize, side: Side) {
        let incoming = self.conns[conn].pipe(side.other());
        incoming.reader = End::Dropped;
        incoming.receive.clear();
        let outgoing = self.conns[conn].pipe(side);
        outgoing.writer = End::Dropped;
        outgoing.send.clear();
        outgoing.is_end_sent = true;
    }

    /// Puts on the wire what there is room for.
    fn pump(&mut self, now: Duration, conn: usize, side: Side) {
        let lengths = self.tcp.lengths;
        let zone = self.conns[conn].zone;
        let rate = self.link(zone).bytes_per_second;
        loop {
            let pipe = self.conns[conn].pipe(side);
            let most = pipe.send.len().min(pipe.credit).min(SEGMENT_BYTES_MAX);
            if most == 0 {
                break;
            }
            let bytes = shorten(lengths, &mut pipe.on_the_way, most);
            pipe.credit -= bytes;
            let data = pipe.send.drain(..bytes).collect();
            self.wakes.extend(pipe.write_waker.take());
            if let Some(rate) = rate {
                let busy = Duration::from_micros(bytes as u64 * 1_000_000 / rate);
                pipe.free_at = pipe.free_at.max(now) + busy;
            }
            self.send(now, (conn, side), What::Data(data));
        }
        let pipe = self.conns[conn].pipe(side);
        let is_over = matches!(pipe.writer, End::Dropped | End::Finished);
        if is_over && pipe.send.is_empty() && !pipe.is_end_sent {
            pipe.is_end_sent = true;
            self.send(now, (conn, side), What::End);
        }
    }

    /// Sends something, to arrive after what was sent before.
    fn send(&mut self, now: Duration, (conn, from): (usize, Side), what: What) {
        if from == Side::Server && self.power == Power::Off {
            return;
        }
        let zone = self.conns[conn].zone;
        let (least, most) = self.link(zone).latency_ms;
        let pipe = self.conns[conn].pipe(from);
        let latency = Duration::from_millis(pipe.on_the_way.within(least..=most));
        let arrival = (now.max(pipe.free_at) + latency).max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        self.schedule(arrival, Event { conn, from, what });
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), event);
        if self.armed.is_none_or(|armed| at < armed) {
            self.wakes.extend(self.driver.take());
        }
    }

    fn arrive(&mut self, now: Duration, event: Event) {
        let Event { conn, from, what } = event;
        if self.conns[conn].pipe(from).is_dead {
            return;
        }
        if from == Side::Client && self.power == Power::Off {
            self.conns[conn].late = match what {
                What::Connect => Late::Connect,
                What::Connected
                | What::Data(_)
                | What::End
                | What::Refused
                | What::Reset
                | What::Room(_) => Late::Data,
            };
            return;
        }
        match what {
            What::Connect => self.on_connect(now, conn),
            What::Connected => self.opened(conn, Opening::Done),
            What::Refused => self.opened(conn, Opening::Refused),
            What::Data(bytes) => {
                let pipe = self.conns[conn].pipe(from);
                match pipe.reader {
                    End::Open => {
                        pipe.receive.extend(bytes);
                        self.wakes.extend(pipe.read_waker.take());
                    }
                    // Nobody reads it, and the writer has to know.
                    End::Dropped => self.send(now, (conn, from.other()), What::Reset),
                    End::Finished | End::Reset => {}
                }
            }
            What::End => {
                let pipe = self.conns[conn].pipe(from);
                pipe.is_ended = true;
                self.wakes.extend(pipe.read_waker.take());
            }
            What::Reset => self.on_reset(conn, from),
            What::Room(bytes) => {
                self.conns[conn].pipe(from.other()).credit += bytes;
                self.pump(now, conn, from.other());
            }
        }
    }

    fn on_connect(&mut self, now: Duration, conn: usize) {
        let answer = match std::mem::replace(&mut self.accept, Accept::Idle) {
            Accept::Closed => {
                self.accept = Accept::Closed;
                What::Refused
            }
            Accept::Idle => What::Connected,
            Accept::Waiting(waker) => {
                self.wakes.push(waker);
                What::Connected
            }
        };
        if matches!(answer, What::Connected) {
            self.backlog.push_back(conn);
        }
        self.send(now, (conn, Side::Server), answer);
    }

    fn opened(&mut self, conn: usize, opening: Opening) {
        let before = std::mem::replace(&mut self.conns[conn].opening, opening);
        if let Opening::Under(waker) = before {
            self.wakes.extend(waker);
        }
    }

    fn on_reset(&mut self, conn: usize, from: Side) {
        let to = from.other();
        let incoming = self.conns[conn].pipe(from);
        if incoming.reader == End::Open {
            incoming.reader = End::Reset;
        }
        self.wakes.extend(incoming.read_waker.take());
        let outgoing = self.conns[conn].pipe(to);
        outgoing.send.clear();
        outgoing.is_end_sent = true;
        if outgoing.writer != End::Dropped {
            outgoing.writer = End::Reset;
        }
        self.wakes.extend(outgoing.write_waker.take());
    }
}

/// How many bytes of `most` go at once: at least one, if there is one.
fn shorten(lengths: Lengths, rng: &mut Rng, most: usize) -> usize {
    match lengths {
        Lengths::Full => most,
        Lengths::Ones => most.min(1),
        Lengths::Short if most > 1 && rng.chance(1, 2) => {
            rng.within(1..=most.min(1 << 20) as u64) as usize
        }
        Lengths::Short => most,
    }
}
