//! The policy of one service or kind of rooms.

use super::history::{HistoryPolicy, Recovery};
use super::presence::PresencePolicy;
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
    /// The client reads messages that fell out of the window from the history of its room, as long
    /// as they are there; lost messages are counted as with [`Skip`](Self::Skip). For kinds with
    /// [recovery](super::Recovery).
    Recover,
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
    /// The history of the messages to all clients. Default `None`: no history.
    pub history: Option<HistoryPolicy>,
    /// The clients of each room as others see them. Default: not shown, nor told of.
    pub presence: PresencePolicy,
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

    /// Adds a history; slow consumers then [recover](SlowConsumer::Recover) from it.
    #[must_use]
    pub fn with_history(self, history: impl Into<HistoryPolicy>) -> Self {
        let history = history.into();
        let slow_consumer = match history.recovery {
            Recovery::Off => self.slow_consumer,
            Recovery::Always | Recovery::Asked | Recovery::Newest => SlowConsumer::Recover,
        };
        Self {
            history: Some(history),
            slow_consumer,
            ..self
        }
    }

    /// The fault of the policy, in words; `None` for a policy without a fault.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let history = self.history.as_ref();
        let recovers = history.is_some_and(|history| history.recovery != Recovery::Off);
        match self.slow_consumer {
            SlowConsumer::Latest if recovers => Some(
                "`slow_consumer = \"latest\"` leaves messages out, which `recovery` never does: \
                 set `recovery = \"off\"`, or another `slow_consumer`",
            ),
            SlowConsumer::Recover if !recovers => Some(
                "`slow_consumer = \"recover\"` reads from a history: set `history`, and not \
                 `recovery = \"off\"`",
            ),
            SlowConsumer::Close
            | SlowConsumer::Latest
            | SlowConsumer::Recover
            | SlowConsumer::Skip => None,
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
