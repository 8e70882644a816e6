//! The calls, as they are read from JSON.
//!
//! Members that are not known are ignored, as they are by Centrifugo: its clients may send some.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::whole::whole;
use crate::bus::Tags;
use crate::caller::Method;
use crate::limits::BATCH_LOOKS_MAX;

/// A command of a caller.
#[derive(Clone, Debug)]
pub enum Call {
    /// Several commands, in this order.
    Batch(Batch),
    /// A message for several rooms.
    Broadcast(Broadcast),
    /// The rooms of a pattern.
    Channels(Wanted),
    /// The end of connections.
    Disconnect(Disconnect),
    /// The end of the stream of a room; an addition of busline.
    End(End),
    /// Messages of a history.
    History(History),
    /// The end of the messages of a history.
    HistoryRemove(Channel),
    /// The state of the server.
    Info(Nothing),
    /// The clients of a room.
    Presence(Channel),
    /// The numbers of clients and subjects of a room.
    PresenceStats(Channel),
    /// A message for a room.
    Publish(Publish),
    /// The end of credentials.
    Refresh(Refresh),
    /// A request to a service.
    Rpc(Rpc),
    /// A further room for a connection.
    Subscribe(Nothing),
    /// The end of memberships.
    Unsubscribe(Unsubscribe),
}

/// The text is no JSON of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCall(String);

impl From<serde_json::Error> for BadCall {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl Call {
    /// Parses the parameters of a method, an object. A member that is `null` counts as absent,
    /// except for `data`.
    ///
    /// # Errors
    ///
    /// When the text is no JSON, or a member is of another type.
    pub fn parse(method: Method, json: &[u8]) -> Result<Self, BadCall> {
        Self::parse_whole(method, json).or_else(|error| {
            // Few callers write what they do not mean, so that only these pay for it.
            let json = without_nulls(json).ok_or(error)?;
            Self::parse_whole(method, &json)
        })
    }

    fn parse_whole(method: Method, json: &[u8]) -> Result<Self, BadCall> {
        // serde would take a list of the members' values for an object.
        let from = json.trim_ascii_start();
        if !from.starts_with(b"{") {
            return Err(BadCall("the parameters are an object".to_owned()));
        }
        Ok(match method {
            Method::Batch => Self::Batch(serde_json::from_slice(from)?),
            Method::Broadcast => Self::Broadcast(serde_json::from_slice(from)?),
            Method::Channels => Self::Channels(serde_json::from_slice(from)?),
            Method::Disconnect => Self::Disconnect(serde_json::from_slice(from)?),
            Method::End => Self::End(serde_json::from_slice(from)?),
            Method::History => Self::History(serde_json::from_slice(from)?),
            Method::HistoryRemove => Self::HistoryRemove(serde_json::from_slice(from)?),
            Method::Info => Self::Info(serde_json::from_slice(from)?),
            Method::Presence => Self::Presence(serde_json::from_slice(from)?),
            Method::PresenceStats => Self::PresenceStats(serde_json::from_slice(from)?),
            Method::Publish => Self::Publish(serde_json::from_slice(from)?),
            Method::Refresh => Self::Refresh(serde_json::from_slice(from)?),
            Method::Rpc => Self::Rpc(serde_json::from_slice(from)?),
            Method::Subscribe => Self::Subscribe(serde_json::from_slice(from)?),
            Method::Unsubscribe => Self::Unsubscribe(serde_json::from_slice(from)?),
        })
    }

    /// Parses a call that names its method itself: `{"method":"info","params":{}}`. `None` for a
    /// method that is not known.
    ///
    /// # Errors
    ///
    /// The errors of [`parse`](Self::parse).
    pub fn parse_named(json: &[u8]) -> Result<Option<Self>, BadCall> {
        #[derive(Deserialize)]
        struct Named<'a> {
            method: String,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
        }
        let Named { method, params } = serde_json::from_slice(json)?;
        let Ok(method) = method.parse() else {
            return Ok(None);
        };
        let params = params.map_or("{}", RawValue::get);
        Self::parse(method, params.as_bytes()).map(Some)
    }

    /// The number of commands that wait for the answer of a service.
    pub fn rpcs(&self) -> usize {
        let Self::Batch(batch) = self else {
            return usize::from(self.method() == Method::Rpc);
        };
        let rpcs = batch.commands.iter().map(Self::rpcs);
        rpcs.sum::<usize>().min(BATCH_LOOKS_MAX)
    }

    /// The method.
    pub fn method(&self) -> Method {
        match self {
            Self::Batch(_) => Method::Batch,
            Self::Broadcast(_) => Method::Broadcast,
            Self::Channels(_) => Method::Channels,
            Self::Disconnect(_) => Method::Disconnect,
            Self::End(_) => Method::End,
            Self::History(_) => Method::History,
            Self::HistoryRemove(_) => Method::HistoryRemove,
            Self::Info(_) => Method::Info,
            Self::Presence(_) => Method::Presence,
            Self::PresenceStats(_) => Method::PresenceStats,
            Self::Publish(_) => Method::Publish,
            Self::Refresh(_) => Method::Refresh,
            Self::Rpc(_) => Method::Rpc,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Unsubscribe(_) => Method::Unsubscribe,
        }
    }
}

/// An object without the members that are `null`; `None` if it has none of these.
fn without_nulls(json: &[u8]) -> Option<Vec<u8>> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
    let all = members.len();
    members.retain(|name, value| name == "data" || value.get() != "null");
    (members.len() < all).then(|| serde_json::to_vec(&members).expect("it was JSON before"))
}

/// The parameters of a method that has none, or that is not served.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "NoParams")
)]
#[serde(default)]
pub struct Nothing {}

/// A request to a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "RpcParams")
)]
#[serde(default)]
pub struct Rpc {
    /// The room or the service, a dot, and the method there.
    pub(super) method: String,
    /// The parameters, which the service gets as they are written.
    pub(super) params: Option<Box<RawValue>>,
}

/// A room.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "ChannelParams")
)]
#[serde(default)]
pub struct Channel {
    /// The room.
    pub(super) channel: String,
}

/// A message, and the way of its publish.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    pub(super) data: Option<&'a RawValue>,
    pub(super) b64data: &'a str,
    pub(super) skip_history: bool,
    pub(super) idempotency_key: &'a str,
    /// 0 for a message without a version.
    pub(super) version: u64,
    pub(super) version_epoch: &'a str,
    pub(super) tags: Option<Tags>,
}

/// Declares a message with its receivers: serde cannot flatten a value that it leaves unparsed.
macro_rules! addressed {
    (
        $(#[$meta:meta])* $type:ident as $name:literal,
        $(#[$about:meta])* $receivers:ident: $of:ty
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[cfg_attr(feature = "server", derive(schemars::JsonSchema), schemars(rename = $name))]
        #[serde(default)]
        pub struct $type {
            $(#[$about])*
            pub(super) $receivers: $of,
            /// The message, in the form that the room takes; `null` is data, too.
            #[serde(deserialize_with = "given")]
            data: Option<Box<RawValue>>,
            /// The message as base64, in place of `data`.
            b64data: String,
            /// Whether the message is for those who are there, and for no history.
            skip_history: bool,
            /// A name of this publish: a second one with it publishes nothing.
            idempotency_key: String,
            /// A number that grows with each state: an older one is not published. 0 for none.
            #[serde(deserialize_with = "whole")]
            version: u64,
            /// The epoch of the versions: the first version of another epoch is the newest.
            version_epoch: String,
            /// Texts by name that travel with the message, to the clients that read them.
            tags: BTreeMap<String, String>,
        }

        impl $type {
            pub(super) fn message(&self) -> Message<'_> {
                Message {
                    data: self.data.as_deref(),
                    b64data: &self.b64data,
                    skip_history: self.skip_history,
                    idempotency_key: &self.idempotency_key,
                    version: self.version,
                    version_epoch: &self.version_epoch,
                    tags: (!self.tags.is_empty()).then(|| Tags::from(&self.tags)),
                }
            }
        }
    };
}

addressed!(
    /// A message for a room.
    Publish as "PublishParams",
    /// The room.
    channel: String
);
addressed!(
    /// A message for several rooms.
    Broadcast as "BroadcastParams",
    /// The rooms.
    channels: Vec<String>
);

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

/// Reads an object in the parameters: serde would take a list of its members' values for one.
fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let json = Box::<RawValue>::deserialize(deserializer)?;
    match json.get() {
        "null" => Ok(None),
        json if json.starts_with('{') => {
            let object = serde_json::from_str(json).map(Some);
            object.map_err(D::Error::custom)
        }
        _ => Err(D::Error::custom("an object is no list")),
    }
}

/// The end of the stream of a room.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "EndParams")
)]
#[serde(default)]
pub struct End {
    /// The room.
    pub(super) channel: String,
    /// The data of the end, which clients get; `null` unless they are given.
    #[serde(deserialize_with = "given")]
    pub(super) data: Option<Box<RawValue>>,
}

/// The part of a history that is to be read.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "HistoryParams")
)]
#[serde(default)]
pub struct History {
    /// The room.
    pub(super) channel: String,
    /// The most messages: below 0 as many as one answer may have; 0 for the position alone.
    #[serde(deserialize_with = "whole")]
    pub(super) limit: i64,
    /// The position behind which the reading begins.
    #[serde(deserialize_with = "object")]
    pub(super) since: Option<Since>,
    /// Whether the newest message is the first.
    pub(super) reverse: bool,
}

/// A position in a history.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "Position")
)]
#[serde(default)]
pub struct Since {
    /// The number of a message; 0 for the beginning.
    #[serde(deserialize_with = "whole")]
    pub(super) offset: u64,
    /// The epoch of the number: empty for any, and error 112 for another than the history's.
    pub(super) epoch: String,
}

/// The rooms that are to be listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "ChannelsParams")
)]
#[serde(default)]
pub struct Wanted {
    /// A pattern of channels: `*`, `?`, `[a-z]`, `{a,b}`; empty for all.
    pub(super) pattern: String,
}

/// The connections that are to end: those that have all that is given.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "DisconnectParams")
)]
#[serde(default)]
pub struct Disconnect {
    /// The subject of their tokens.
    pub(super) user: String,
    /// The number that presence shows of a client.
    pub(super) client: String,
    /// Connections have none here: error 108 if it is given.
    pub(super) session: String,
    /// Their channel; an addition of busline.
    pub(super) room: String,
    /// The numbers of clients that stay.
    pub(super) whitelist: Vec<String>,
    /// The close frame; 3503 unless it is given.
    #[serde(deserialize_with = "object")]
    pub(super) disconnect: Option<Close>,
}

/// The close frame of connections that are to end.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "CloseFrame")
)]
#[serde(default)]
pub struct Close {
    /// A code that a close frame may carry.
    #[serde(deserialize_with = "whole")]
    pub(super) code: i64,
    /// A reason, of at most 123 bytes.
    pub(super) reason: String,
}

/// The memberships that are to end.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "UnsubscribeParams")
)]
#[serde(default)]
pub struct Unsubscribe {
    /// The subject of their tokens.
    pub(super) user: String,
    /// The room; empty for every room.
    pub(super) channel: String,
    /// The number that presence shows of a client.
    pub(super) client: String,
    /// Connections have none here: error 108 if it is given.
    pub(super) session: String,
}

/// The connections whose credentials end.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "RefreshParams")
)]
#[serde(default)]
pub struct Refresh {
    /// The subject of their tokens.
    pub(super) user: String,
    /// The number that presence shows of a client.
    pub(super) client: String,
    /// Connections have none here: error 108 if it is given.
    pub(super) session: String,
    /// Whether the credentials have ended.
    pub(super) expired: bool,
    /// The end in seconds since 1970; 0 for never.
    #[serde(deserialize_with = "whole")]
    pub(super) expire_at: i64,
}

/// Commands that are done one after the other.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) commands: Vec<Call>,
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Commands {
            commands: Vec<BTreeMap<String, Box<RawValue>>>,
        }
        let Commands { commands } = Commands::deserialize(deserializer)?;
        let commands = commands.into_iter().map(command);
        let commands: Result<_, _> = commands.collect();
        let commands = commands.map_err(D::Error::custom)?;
        Ok(Self { commands })
    }
}

/// Parses a command of a batch, an object with the parameters under the name of the method.
fn command(members: BTreeMap<String, Box<RawValue>>) -> Result<Call, BadCall> {
    let known = members.into_iter().filter_map(|(name, params)| {
        let method = name.parse::<Method>().ok()?;
        Some((method, params))
    });
    let mut known = known.filter(|(_, params)| params.get() != "null");
    match (known.next(), known.next()) {
        (Some((Method::Batch, _)), _) => Err(BadCall("a batch has no batch in it".to_owned())),
        (Some((method, params)), None) => Call::parse(method, params.get().as_bytes()),
        (None, _) | (Some(_), Some(_)) => {
            Err(BadCall("a command of a batch names one method".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_null_counts_as_absent_and_data_that_is_null_as_data() {
        let json = br#"{"channel":"a","idempotency_key":null,"tags":null,"data":null}"#;
        let Ok(Call::Publish(publish)) = Call::parse(Method::Publish, json) else {
            panic!("it is a publish");
        };
        let message = publish.message();
        assert_eq!(publish.channel, "a");
        assert_eq!(message.data.map(RawValue::get), Some("null"));
        assert_eq!(message.idempotency_key, "");
        for bad in [&b"null"[..], b"[null]", br#"{"channel":7,"tags":null}"#] {
            assert!(Call::parse(Method::Publish, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_object_in_the_parameters_is_no_list() {
        for (method, json, is_read) in [
            (Method::History, r#"{"since":{"offset":1}}"#, true),
            (Method::History, r#"{"since":null}"#, true),
            (Method::History, r#"{"since":[]}"#, false),
            (Method::History, r#"{"since":[1,""]}"#, false),
            (Method::Disconnect, r#"{"disconnect":{"code":4000}}"#, true),
            (Method::Disconnect, r#"{"disconnect":[4000,"bye"]}"#, false),
        ] {
            let parsed = Call::parse(method, json.as_bytes());
            assert_eq!(parsed.is_ok(), is_read, "{json}");
        }
    }

    #[test]
    fn a_call_that_names_its_method_may_leave_its_parameters_out() {
        let parse = |json: &str| Call::parse_named(json.as_bytes());
        let method = |json: &str| parse(json).map(|call| call.map(|call| call.method()));
        for json in [
            r#"{"method":"info"}"#,
            r#"{"params":{},"method":"info"}"#,
            r#"{"method":"info","params":{"x":1}}"#,
        ] {
            assert_eq!(method(json), Ok(Some(Method::Info)), "{json}");
        }
        assert_eq!(method(r#"{"method":"nonsense","params":7}"#), Ok(None));
        for bad in [
            "{}",
            "",
            r#"{"method":7}"#,
            r#"{"method":"info","params":7}"#,
        ] {
            assert!(method(bad).is_err(), "{bad}");
        }
    }
}
