//! The answers to calls, as they are written in JSON.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Fault;
use crate::bus::Position;
use crate::caller::Method;

/// The answer to a command that was done.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The replies to the commands of a batch.
    Batch(Replies),
    /// The replies to the publishes of a broadcast.
    Broadcast(Responses),
    /// Rooms.
    Channels(Channels),
    /// The answer of a service.
    Answered(Answered),
    /// Nothing more than that it was done.
    Done(Done),
    /// Messages of a history.
    History(History),
    /// The state of the server.
    Info(Info),
    /// Clients of a room.
    Presence(Presence),
    /// The numbers of clients and subjects of a room.
    PresenceStats(PresenceStats),
    /// A message was published.
    Published(Published),
}

impl Answer {
    pub(super) const DONE: Self = Self::Done(Done {});
}

/// An answer or a fault, under its name.
#[derive(Clone, Debug, Serialize)]
pub enum Reply {
    /// The fault.
    #[serde(rename = "error")]
    Error(Fault),
    /// The answer.
    #[serde(rename = "result")]
    Result(Box<Answer>),
}

impl From<Result<Answer, Fault>> for Reply {
    fn from(done: Result<Answer, Fault>) -> Self {
        match done {
            Ok(answer) => Self::Result(Box::new(answer)),
            Err(fault) => Self::Error(fault),
        }
    }
}

/// An object without members.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Done {}

/// The answer of a service, as it is written.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    pub(super) data: Box<RawValue>,
}

/// The position of a message; without a history there is none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl From<Option<Position>> for Published {
    fn from(position: Option<Position>) -> Self {
        Self {
            offset: position.map(|position| position.offset),
            epoch: position.map(|position| position.epoch.to_string()),
        }
    }
}

/// The replies of a broadcast, in the order of its channels.
#[derive(Clone, Debug, Serialize)]
pub struct Responses {
    pub(super) responses: Vec<Reply>,
}

/// The replies of a batch, in the order of its commands.
#[derive(Clone, Debug, Serialize)]
pub struct Replies {
    pub(super) replies: Vec<Named>,
}

/// The reply to one command of a batch: the answer under the name of its method, or the fault.
#[derive(Clone, Debug)]
pub struct Named {
    pub(super) method: Method,
    pub(super) done: Result<Answer, Fault>,
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.done {
            Ok(answer) => serializer.collect_map([(self.method.name(), answer)]),
            Err(fault) => serializer.collect_map([("error", fault)]),
        }
    }
}

/// Rooms by channel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Channels {
    pub(super) channels: BTreeMap<String, Channel>,
    /// Whether there are more rooms than one answer has.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more: bool,
}

/// A room.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Channel {
    pub(super) num_clients: usize,
}

/// Messages of a history, and its position.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    pub(super) publications: Vec<Publication>,
    pub(super) epoch: String,
    pub(super) offset: u64,
}

/// A message of a history.
#[derive(Clone, Debug, Serialize)]
pub struct Publication {
    #[serde(flatten)]
    pub(super) data: Data,
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<ClientInfo>,
    /// Whether the data are those of the end of the stream.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) end: bool,
}

/// The data of a message: JSON, or bytes in base64.
#[derive(Clone, Debug, Serialize)]
pub enum Data {
    /// Bytes.
    #[serde(rename = "b64data")]
    Bytes(String),
    /// JSON.
    #[serde(rename = "data")]
    Json(Box<RawValue>),
}

/// A client of a room.
#[derive(Clone, Debug, Serialize)]
pub struct ClientInfo {
    pub(super) client: String,
    /// Empty for a client without a subject.
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn_info: Option<Box<RawValue>>,
}

/// The clients of a room, by number.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Presence {
    pub(super) presence: BTreeMap<String, ClientInfo>,
    /// Whether the room has more clients than one answer has.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more: bool,
}

/// The numbers of clients and subjects of a room.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PresenceStats {
    pub(super) num_clients: usize,
    pub(super) num_users: usize,
}

/// The servers that serve together: this one.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    pub(super) nodes: [Node; 1],
}

/// A server.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    pub(super) uid: String,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) num_clients: usize,
    pub(super) num_users: usize,
    pub(super) num_subs: usize,
    pub(super) num_channels: usize,
    /// In seconds.
    pub(super) uptime: u64,
    pub(super) metrics: Metrics,
}

/// Figures of a server, which are at `/metrics` instead.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    pub(super) interval: u32,
    pub(super) items: BTreeMap<String, f64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides whether a member is left out"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}
