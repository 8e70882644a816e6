//! The event loop for all clients of a run: one thread serves their sockets and the workload.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use mio::{Events, Poll};

use super::check::Check;
use super::clock::now;
use super::connection::Connection;
use super::frames::Frames;
use super::incoming::Keep;
use super::latencies::Latencies;
use super::ledger::Ledger;
use super::problem::Problem;
use super::workload::Workload;

/// Size of the read buffer that all connections share.
const READ_BYTES: usize = 256 * 1024;

/// Maximum number of events in one iteration.
const EVENTS: usize = 8192;

/// The connected clients.
pub(super) struct Crowd {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    frames: Frames,
    check: Option<Check>,
    buffer: Vec<u8>,
    /// Time without events.
    idle: Duration,
}

/// The state that a workload changes: the permissions to send, and the latencies.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// Clients with the number of messages that they may now send, in the order of the calls.
    grants: Vec<(usize, u64)>,
}

impl Course {
    /// The state before the first message.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            latencies: Latencies::new(),
            grants: Vec::new(),
        }
    }

    /// Allows a client to send at once; returns the number of messages, see [`Ledger::send`].
    pub(super) fn send(&mut self, client: usize, wanted: u64) -> u64 {
        let count = self.ledger.send(client, wanted);
        if count > 0 {
            self.grants.push((client, count));
        }
        count
    }
}

/// Whether an iteration received messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Received,
    Nothing,
}

impl Crowd {
    /// Clients that send these frames over these connections, which are registered with this poll.
    pub(super) fn new(
        poll: Poll,
        connections: Vec<Connection>,
        frames: Frames,
        check: Option<Check>,
    ) -> Self {
        Self {
            poll,
            events: Events::with_capacity(EVENTS),
            connections,
            frames,
            check,
            buffer: vec![0; READ_BYTES],
            idle: Duration::ZERO,
        }
    }

    /// Starts the workload.
    pub(super) fn begin(&mut self, workload: &mut dyn Workload, course: &mut Course) {
        workload.begin(course);
        self.write(course);
    }

    /// Reads the available messages, lets the workload react, and writes; waits for up to `wait` if
    /// there are no events.
    pub(super) fn turn(
        &mut self,
        wait: Duration,
        workload: &mut dyn Workload,
        course: &mut Course,
    ) -> Result<Turn, Problem> {
        self.wait(wait)?;
        let before = course.ledger.delivered();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.serve(event.token().0, workload, course);
        }
        self.events = events;
        workload.turned(course);
        self.write(course);
        Ok(match course.ledger.delivered() == before {
            true => Turn::Nothing,
            false => Turn::Received,
        })
    }

    /// Waits for events, and counts the time as idle, except when events were already pending.
    fn wait(&mut self, wait: Duration) -> Result<(), Problem> {
        let start = now();
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Problem::Poll(error)),
        }
        if self.events.is_empty() || !wait.is_zero() {
            self.idle += start.elapsed();
        }
        Ok(())
    }

    /// Reads from one client, and sends the messages that the workload grants in return.
    fn serve(&mut self, client: usize, workload: &mut dyn Workload, course: &mut Course) {
        let connection = &mut self.connections[client];
        let count = match &mut self.check {
            Some(check) => connection.read(&mut self.buffer, Keep::Messages, |message| {
                check.message(client, message);
            }),
            None => connection.read(&mut self.buffer, Keep::Nothing, |_message| ()),
        };
        if count > 0 {
            course.ledger.receive(client, count);
            workload.received(client, count, course);
        }
        self.write(course);
        // Write pongs, and bytes that the socket did not accept before.
        self.connections[client].write(client, &mut self.frames);
        self.look_after(client, workload, course);
    }

    /// Writes off a connection that has just ended.
    fn look_after(&self, client: usize, workload: &mut dyn Workload, course: &mut Course) {
        if self.connections[client].end().is_some() && course.ledger.is_open(client) {
            course.ledger.leave(client);
            workload.left(client, course);
        }
    }

    fn write(&mut self, course: &mut Course) {
        for (client, count) in course.grants.drain(..) {
            let connection = &mut self.connections[client];
            connection.grant(count);
            connection.write(client, &mut self.frames);
        }
    }

    /// Time without events.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// The check of the messages, with `--verify`.
    pub(super) fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    /// The number of lost connections, by how they ended.
    pub(super) fn lost(&self) -> BTreeMap<String, usize> {
        let mut lost = BTreeMap::new();
        for end in self.connections.iter().filter_map(Connection::end) {
            *lost.entry(end.text()).or_default() += 1;
        }
        lost
    }

    /// Closes all connections.
    pub(super) fn close(mut self) {
        for connection in &mut self.connections {
            connection.bye();
        }
    }
}
