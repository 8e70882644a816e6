//! The policy of one service or kind of rooms.

use super::relay::{Payload, Publish, Relay, RelayPolicy};
use super::{InboundPolicy, LifecyclePolicy, Window};

/// The treatment of a client that reads more slowly than its service publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The client's session is closed with 1013 and the number of lost messages.
    Close,
    /// The client gets the newest of the messages to all clients, never an older one; messages that
    /// a newer one has overtaken are counted as superseded. For services that publish a state.
    Latest,
    /// The client loses the oldest unread messages and stays; the losses are counted.
    #[default]
    Skip,
}

/// The policy of one service and its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePolicy {
    /// The rules of a relay; `None` for a kind that runs a service.
    pub relay: Option<Relay>,
    /// The clients that may send messages; a message of another client closes its session with
    /// 4403. Default [`Publish::Members`], and [`Publish::Nobody`] for a relay.
    pub publish: Publish,
    /// The messages that are taken; another message closes its session with 1007. Default
    /// [`Payload::Any`].
    pub payload: Payload,
    /// Whether the users that a room's key names after its last `#`, as in `talk#ann,bob`, are the
    /// only clients that join it without a grant. Default `false`.
    pub user_limited: bool,
    /// Whether the service knows its clients: their joins and leaves
    /// ([`Context::event`](crate::Context::event)), their addresses and queries. Costs some 200
    /// bytes a client. Default `false`, and `true` for [rooms](ServicePolicy::of_rooms).
    pub members: bool,
    /// The policy for start, stop and failure.
    pub lifecycle: LifecyclePolicy,
    /// The treatment of a client that reads more slowly than the service publishes.
    pub slow_consumer: SlowConsumer,
    /// The bounds of the messages that each topic of the service keeps. Default `None`:
    /// [`Limits::window`](super::Limits::window).
    pub window: Option<Window>,
    /// The largest message that a client may send, in bytes. Default `None`:
    /// [`Limits::message_bytes`](super::Limits::message_bytes).
    pub message_bytes: Option<usize>,
    /// The rates at which each client may send. Default `None`:
    /// [`Limits::inbound`](super::Limits::inbound).
    pub inbound: Option<InboundPolicy>,
}

impl ServicePolicy {
    /// The default of a kind of rooms; see [`LifecyclePolicy::of_rooms`].
    pub fn of_rooms() -> Self {
        Self {
            members: true,
            lifecycle: LifecyclePolicy::of_rooms(),
            ..Self::default()
        }
    }

    /// The policy of a relay with these rules.
    pub fn of_relay(relay: RelayPolicy) -> Self {
        Self {
            relay: Some(Relay { echo: relay.echo }),
            publish: relay.publish,
            payload: relay.payload,
            members: false,
            ..Self::of_rooms()
        }
    }
}
