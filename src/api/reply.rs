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
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Done {}

/// The answer of a service, as it is written.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Answered {
    /// The answer.
    pub(super) data: Box<RawValue>,
}

/// The position of a message; without a history there is none.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Published {
    /// The number of the message in the history of its room.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// The epoch of the number.
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
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Channels {
    /// The rooms.
    pub(super) channels: BTreeMap<String, Channel>,
    /// Whether there are more rooms than one answer has.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more: bool,
}

/// A room.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Channel {
    /// The number of its clients.
    pub(super) num_clients: usize,
}

/// Messages of a history, and its position.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct History {
    /// The messages that were asked for.
    pub(super) publications: Vec<Publication>,
    /// The epoch of the history.
    pub(super) epoch: String,
    /// The number of the last message of the history.
    pub(super) offset: u64,
}

/// A message of a history.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Publication {
    #[serde(flatten)]
    pub(super) data: Data,
    /// The number of the message.
    pub(super) offset: u64,
    /// The client that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<ClientInfo>,
    /// The texts by name that came with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    /// Whether the data are those of the end of the stream.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) end: bool,
}

/// The data of a message: JSON, or bytes in base64.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
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
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "Client")
)]
pub struct ClientInfo {
    /// The number.
    pub(super) client: String,
    /// The subject; empty for a client without one.
    pub(super) user: String,
    /// The claims that the kind shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn_info: Option<Box<RawValue>>,
}

/// The clients of a room, by number.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Presence {
    /// The clients.
    pub(super) presence: BTreeMap<String, ClientInfo>,
    /// Whether the room has more clients than one answer has.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more: bool,
}

/// The numbers of clients and subjects of a room.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct PresenceStats {
    /// The number of clients.
    pub(super) num_clients: usize,
    /// The number of different subjects.
    pub(super) num_users: usize,
}

/// The servers that serve together: this one.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Info {
    /// The servers.
    pub(super) nodes: [Node; 1],
}

/// A server.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Node {
    /// A random text of this start.
    pub(super) uid: String,
    /// The name of the program.
    pub(super) name: &'static str,
    /// The version of the program.
    pub(super) version: &'static str,
    /// The number of connections.
    pub(super) num_clients: usize,
    /// The number of different subjects.
    pub(super) num_users: usize,
    /// The number of memberships of rooms.
    pub(super) num_subs: usize,
    /// The number of rooms and services with clients.
    pub(super) num_channels: usize,
    /// The time since the start, in seconds.
    pub(super) uptime: u64,
    /// Figures, which are at `/metrics` instead.
    pub(super) metrics: Metrics,
}

/// Figures of a server, which are at `/metrics` instead.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Metrics {
    /// 0.
    pub(super) interval: u32,
    /// Empty.
    pub(super) items: BTreeMap<String, f64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides whether a member is left out"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}
