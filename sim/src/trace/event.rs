//! What can happen in a run.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Bytes;
use super::room::Seen;
use crate::calls::Call;
use crate::plan::Action;
pub use crate::speech::Notice;
use crate::wild::Deed;

/// One thing that happened.
///
/// No part of it may differ between two runs of one plan: no id of a process, thread or task, no
/// address in memory, no real time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub enum Event {
    /// The server accepted a connection.
    Accepted {
        /// Its number, from 1.
        conn: u32,
        /// The address of the client.
        peer: String,
    },
    /// The server's system had no file descriptor for a connection.
    AcceptFailed,
    /// The plan's turn: a fault, or the order to drain.
    Acted {
        /// What was done.
        action: Action,
    },
    /// A backend read the answer to a call, or an answer to none.
    Answered {
        /// Which backend.
        client: u32,
        /// The number of its connection, from 1.
        link: u32,
        /// The number of its call, from 1; 0 for none.
        number: u32,
        /// The status; 0 of what is no response.
        status: u16,
        /// What it was told.
        body: String,
    },
    /// A socket takes nothing of what the server writes, the first time since it last did.
    Blocked {
        /// Which connection.
        conn: u32,
    },
    /// A backend began to send a call.
    Called {
        /// Which backend.
        client: u32,
        /// The number of its connection, from 1.
        link: u32,
        /// The number of its call, from 1.
        number: u32,
        /// What.
        #[serde(flatten)]
        call: Call,
    },
    /// A client saw the server's close frame.
    Closed {
        /// Which client.
        client: u32,
        /// The code, if the frame had one.
        code: Option<u16>,
    },
    /// A client's handshake was answered with 101.
    Connected {
        /// Which client.
        client: u32,
    },
    /// A client begins to connect.
    Connecting {
        /// Which client.
        client: u32,
        /// To which service.
        service: String,
        /// From where.
        zone: u8,
    },
    /// A client did something that needs raw bytes.
    Did {
        /// Which client.
        client: u32,
        /// What.
        #[serde(flatten)]
        deed: Deed,
    },
    /// The server dropped a connection's socket.
    Dropped {
        /// Which connection.
        conn: u32,
    },
    /// A client that was connected has no connection any more.
    Ended {
        /// Which client.
        client: u32,
        /// In what way.
        ending: Ending,
    },
    /// An operation of the server on a socket failed.
    Failed {
        /// Which connection.
        conn: u32,
        /// What it tried.
        operation: Operation,
        /// The kind of the error.
        error: String,
    },
    /// A client of a user's own test has done all that it was to do.
    Finished {
        /// Which client.
        client: u32,
        /// In what way.
        finish: Finish,
    },
    /// What the application has done and holds.
    Held(Box<Held>),
    /// The history of a room is new, has another epoch, or has grown.
    Journal {
        /// The name of the room.
        room: String,
        /// Its epoch.
        epoch: String,
        /// The offset of its newest message.
        top: u64,
        /// The messages that it has kept since the last time, with their offsets.
        texts: Vec<(u64, String)>,
    },
    /// A client begins to leave with a close frame.
    Leaving {
        /// Which client.
        client: u32,
        /// With this code.
        code: u16,
    },
    /// The product logged.
    Log {
        /// How loud.
        level: &'static str,
        /// Which module.
        target: &'static str,
        /// What.
        message: String,
        /// With what.
        fields: BTreeMap<&'static str, String>,
    },
    /// A client of a user's own test noted something.
    Noted {
        /// Which client.
        client: u32,
        /// What.
        text: String,
    },
    /// A task of the product panicked.
    Panicked {
        /// What the panic said.
        text: String,
    },
    /// The server read bytes.
    Read {
        /// From which connection.
        conn: u32,
        /// Which.
        #[serde(flatten)]
        data: Bytes,
    },
    /// The server read the end of a stream.
    ReadEnd {
        /// Of which connection.
        conn: u32,
    },
    /// A client received a message.
    Received {
        /// Which client.
        client: u32,
        /// Its text; of a binary message the hash.
        text: String,
    },
    /// A client was not connected.
    Refused {
        /// Which client.
        client: u32,
        /// Why not.
        reason: String,
    },
    /// An instance of a room saw or did something.
    Room {
        /// The name of the room.
        room: String,
        /// Of which generation it is.
        generation: u64,
        /// What.
        #[serde(flatten)]
        seen: Seen,
    },
    /// A client sent a text.
    Sent {
        /// Which client.
        client: u32,
        /// The text.
        text: String,
    },
    /// A client was told something about its messages.
    Told {
        /// Which client.
        client: u32,
        /// What.
        #[serde(flatten)]
        notice: Notice,
    },
    /// `serve` has returned.
    Served {
        /// Its error, if it was one.
        error: Option<String>,
    },
    /// The server ended its side of a stream.
    Shutdown {
        /// Of which connection.
        conn: u32,
    },
    /// A server was started; the first one at the beginning.
    Started,
    /// A service is in another state than before.
    Status {
        /// Which service.
        service: String,
        /// Its state, without times.
        state: &'static str,
        /// The generation of its last start.
        generation: String,
        /// Its leases.
        clients: usize,
        /// Instances started and gone.
        starts: u64,
        /// Instances gone.
        exits: u64,
        /// Sessions of all services at the same moment.
        sessions_open: usize,
    },
    /// The connection of a backend ended before the answer to a call.
    Unanswered {
        /// Which backend.
        client: u32,
        /// The number of its connection, from 1.
        link: u32,
        /// The number of its call, from 1.
        number: u32,
    },
    /// The server wrote bytes.
    Written {
        /// To which connection.
        conn: u32,
        /// Which.
        #[serde(flatten)]
        data: Bytes,
    },
}

/// How a client's connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The client dropped it without a close frame.
    Aborted,
    /// It broke.
    Broken,
    /// It ended after close frames.
    Closed,
    /// The client waited for the server's close frame in vain.
    GaveUp,
}

/// How a client of a user's own test came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It returned.
    Done,
    /// It returned an error: its connection was gone, or what it waited for did not come.
    Gone(String),
    /// It panicked, as an assertion of the test does.
    Panicked(String),
}

/// What the server does to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// To flush what was written.
    Flush,
    /// To read.
    Read,
    /// To end its side.
    Shutdown,
    /// To write.
    Write,
}

/// What an application has done and holds, and the simulator for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named and documented as in busline's counts")]
pub struct Held {
    pub topics: usize,
    pub subscriptions: usize,
    pub bytes: usize,
    pub published: u64,
    pub owed: u64,
    pub delivered: u64,
    pub lost_lagged: u64,
    #[serde(skip_serializing_if = "is_none")]
    pub lost_superseded: u64,
    pub lost_unsubscribed: u64,
    pub pending: u64,
    pub opened: u64,
    pub closed: u64,
    pub refused: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub lost_not_taken: u64,
    pub lost_unsent: u64,
    pub stale: u64,
    /// Messages that were for all but the client that read them, and ends of its session.
    #[serde(skip_serializing_if = "is_none")]
    pub excluded: u64,
    pub pings: u64,
    /// Times a client was not read because it had sent what it may.
    #[serde(skip_serializing_if = "is_none")]
    pub pauses: u64,
    pub sessions_open: usize,
    /// Tasks of the product that have not ended.
    pub tasks: usize,
    /// Services and kinds of rooms that are not idle.
    pub busy: Vec<String>,
    /// Rooms that count against a bound.
    #[serde(skip_serializing_if = "is_none")]
    pub rooms_open: u64,
    /// Rooms that are there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &u64) -> bool {
    *count == 0
}
