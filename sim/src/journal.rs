//! The kind of rooms with a history in plans: `journal`, a relay or a kind with an instance.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::app::{Builder, RegisterError};
use busline::limits::{
    HistoryLimits, HistoryPolicy, Keep, PresencePolicy, Publish, Readers, Recovery, RelayPolicy,
    Retention, SlowConsumer, Tell, Window,
};
use busline::rt::Runtime;
use busline::{Context, Limits, Service, ServicePolicy};
use serde::{Deserialize, Serialize};

use crate::wild::Wild;

/// The kind of rooms with a history.
pub(crate) const JOURNAL: &str = "journal";

/// The paths of the rooms of a plan.
pub(crate) const JOURNALS: [&str; 3] = ["journal/a", "journal/b", "journal/c"];

/// More bytes than a message of a plan pins in a history, with all its encodings.
pub(crate) const MESSAGE_BYTES_MOST: u64 = 1_500;

/// The histories of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Messages that a room keeps.
    pub messages: usize,
    /// Bytes that a room keeps.
    pub bytes: usize,
    /// The age at which a message expires.
    pub ttl_ms: u64,
    /// Messages that one recovery brings, if other than `messages`.
    pub recovery_max: Option<usize>,
    /// Messages of the window for slow readers.
    pub window: usize,
    /// Whether a slow reader reads on from the history.
    pub recovers: bool,
    /// Whether a client gets its own messages.
    pub echo: bool,
    /// Bytes that all rooms keep together.
    pub bytes_in_all: u64,
    /// Positions of rooms without clients.
    pub positions: usize,
    /// The time until a position is forgotten.
    pub position_ttl_ms: u64,
    /// The clients that get messages which were published before they came.
    #[serde(default, skip_serializing_if = "Recovering::is_asked")]
    pub recovery: Recovering,
    /// Whether no client may read the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_private: bool,
    /// Whether an instance publishes what clients say; else the kind is a relay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hosted: bool,
    /// The time for which leaves are held back, where clients are told of joins and leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_delay_ms: Option<u64>,
}

/// The clients that get messages which were published before they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovering {
    /// A client that shows its position, where each is told positions.
    Always,
    /// A client that shows its position.
    #[default]
    Asked,
    /// Each client gets the newest message.
    Newest,
    /// No client, and none is told a position.
    Off,
}

impl Recovering {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_asked(&self) -> bool {
        *self == Self::Asked
    }

    fn policy(self) -> Recovery {
        match self {
            Self::Always => Recovery::Always,
            Self::Asked => Recovery::Asked,
            Self::Newest => Recovery::Newest,
            Self::Off => Recovery::Off,
        }
    }
}

impl Journal {
    /// These limits with the bounds of all histories.
    pub(crate) fn limit(self, limits: Limits) -> Limits {
        Limits {
            history: HistoryLimits {
                history_bytes: self.bytes_in_all,
                positions: self.positions,
                position_ttl: Duration::from_millis(self.position_ttl_ms),
                ..HistoryLimits::default()
            },
            ..limits
        }
    }

    /// Registers the kind, with `host` for the instances if there are any.
    pub(crate) fn register<R: Runtime>(
        self,
        builder: Builder<R>,
        wild: &Wild,
        host: impl Service,
    ) -> Result<Builder<R>, RegisterError> {
        if self.is_hosted {
            let policy = self.policy(wild, ServicePolicy::of_rooms());
            return builder.room_with(JOURNAL, host, policy);
        }
        let relay = RelayPolicy {
            publish: Publish::Members,
            echo: self.echo,
            ..RelayPolicy::default()
        };
        builder.relay_with(JOURNAL, self.policy(wild, ServicePolicy::of_relay(relay)))
    }

    fn policy(self, wild: &Wild, kind: ServicePolicy) -> ServicePolicy {
        let nonzero = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let retention = Retention {
            messages: nonzero(self.messages),
            bytes: self.bytes,
            ttl: self.ttl(),
            recovery_max: self.recovery_max,
        };
        let history = HistoryPolicy {
            retention,
            recovery: self.recovery.policy(),
            read: if self.is_private {
                Readers::Nobody
            } else {
                Readers::Members
            },
        };
        let policy = ServicePolicy {
            lifecycle: wild.lifecycle(),
            window: Some(Window {
                messages: nonzero(self.window),
                bytes: 1 << 20,
            }),
            ..kind.with_history(history)
        };
        let slow_consumer = if self.reads_on() {
            SlowConsumer::Recover
        } else {
            SlowConsumer::Skip
        };
        ServicePolicy {
            slow_consumer,
            presence: self.presence(),
            ..policy
        }
    }

    fn presence(self) -> PresencePolicy {
        let delay = self.leave_delay_ms.map(Duration::from_millis);
        delay.map_or_else(PresencePolicy::default, |leave_delay| PresencePolicy {
            keep: Keep::List,
            tell: Tell::All,
            leave_delay,
            ..PresencePolicy::default()
        })
    }

    /// Whether a slow reader reads on from the history, which takes a recovery.
    pub(crate) fn reads_on(self) -> bool {
        self.recovers && self.recovery != Recovering::Off
    }

    /// Whether a client that shows a position is told whether it recovers.
    pub(crate) fn answers(self) -> bool {
        matches!(self.recovery, Recovering::Always | Recovering::Asked)
    }

    pub(crate) fn ttl(self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// The most messages that one recovery brings.
    pub(crate) fn recovery_max(self) -> u64 {
        self.recovery_max.unwrap_or(self.messages) as u64
    }
}

/// The service of a kind with an instance: it publishes each text, and ends itself or the stream if
/// the text is an order to do so.
pub(crate) async fn scribe(mut ctx: Context) -> Result<(), String> {
    while let Some(message) = ctx.recv().await {
        let text = message.as_text().unwrap_or("").to_owned();
        ctx.publish(text.clone());
        match text.split(' ').next() {
            Some("end") => {
                let number = text.rsplit(' ').next().unwrap_or("");
                // The stream may have ended before.
                let _ = ctx.end(&format!("{{\"text\":{number}}}"));
                ctx.publish(format!("late {text}"));
            }
            Some("error") => return Err("as it was told".to_owned()),
            // Planned: the hook that prints panics is not to know.
            Some("panic") => std::panic::resume_unwind(Box::new("as it was told")),
            Some(_) | None => {}
        }
    }
    Ok(())
}
