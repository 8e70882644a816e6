//! What a wild plan sets: limits of the server, sizes of the network, and what raw clients do.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use busline::limits::{
    DrainPolicy, InboundPolicy, KeepalivePolicy, LifecyclePolicy, Limits, OverRate, Rate,
    SlowConsumer, Window,
};
use serde::{Deserialize, Serialize};

use crate::calls::Calls;
use crate::journal::Journal;
use crate::rooms::Rooms;

/// The parts of a plan that a calm one leaves as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named and documented as in busline's limits")]
pub struct Wild {
    /// The network below the clients.
    pub tcp: Tcp,
    pub window_messages: usize,
    pub window_bytes: usize,
    pub message_bytes: usize,
    pub outbox_bytes: usize,
    pub inbound_batch: usize,
    pub sessions: usize,
    pub keepalive_ms: u64,
    pub pong_timeout_ms: u64,
    #[serde(default = "a_minute")]
    pub message_timeout_ms: u64,
    pub accept_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub close_timeout_ms: u64,
    pub linger_ms: u64,
    pub stop_grace_ms: u64,
    pub crashes_max: u32,
    /// Whether a slow consumer is closed.
    pub closes_slow: bool,
    /// When the faults are over.
    pub healed_ms: u64,
    #[serde(default = "ten_seconds")]
    pub handshake_timeout_ms: u64,
    /// How long a client that comes after the faults may wait to be served.
    #[serde(default = "twenty_seconds")]
    pub served_ms: u64,
    /// How much one client may send, if not any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// Whether a client gets the newest message only; one that is not closed for being slow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_latest: bool,
    /// Sessions that leave a draining server in a second, if not all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_bytes_min: Option<usize>,
    /// The bounds of rooms, if there are kinds of rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Rooms>,
    /// The bounds of calls and requests, if there are backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
    /// The histories of the whole server, if a kind of rooms has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
}

/// How much one client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Pace>,
    /// Bytes, those of frames and control frames among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Pace>,
    /// Whether more closes its session; else it waits.
    pub closes: bool,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// In the long run; at least 1.
    pub per_second: u64,
    /// At once; at least 1.
    pub burst: u64,
}

impl Pace {
    fn rate(self) -> Rate {
        Rate::new(self.per_second, self.burst)
    }
}

impl Inbound {
    fn policy(self) -> InboundPolicy {
        InboundPolicy {
            bytes: self.bytes.map(Pace::rate),
            messages: self.messages.map(Pace::rate),
            over: if self.closes {
                OverRate::Close
            } else {
                OverRate::Wait
            },
        }
    }
}

fn a_minute() -> u64 {
    60_000
}

fn ten_seconds() -> u64 {
    10_000
}

fn twenty_seconds() -> u64 {
    20_000
}

/// The buffers and the rate of every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Bytes a writer gets rid of while nothing is sent.
    pub send_bytes: usize,
    /// Bytes that arrive while nothing is read.
    pub receive_bytes: usize,
    /// The rate of a link, if it has one; at least 1.
    pub bytes_per_second: Option<u64>,
    /// How much is read, written and sent at once.
    pub lengths: Lengths,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            send_bytes: 1 << 20,
            receive_bytes: 1 << 20,
            bytes_per_second: None,
            lengths: Lengths::Full,
        }
    }
}

/// How much is read, written and sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// As much as there is.
    Full,
    /// One byte.
    Ones,
    /// In half of the cases less than there is.
    Short,
}

/// What only a raw client can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    /// Puts a request to its service, in JSON.
    Ask {
        /// The number of the request.
        id: u64,
        /// Which way the service is to answer.
        method: String,
    },
    /// Sends a binary message of this many bytes.
    Binary {
        /// How many.
        bytes: usize,
    },
    /// Sends a text in fragments, with a ping between each two.
    Fragments {
        /// The text.
        text: String,
        /// Bytes of a fragment.
        bytes: usize,
    },
    /// Sends this many pings at once.
    Flood {
        /// How many.
        pings: u32,
    },
    /// Ends its writing half.
    HalfClose,
    /// Breaks a rule.
    Offend {
        /// Which.
        offence: Offence,
    },
    /// Connects without a proper request; only as the first deed, at the time of connecting.
    Opening {
        /// What it sends instead.
        head: Head,
    },
    /// Sends the beginning of a frame and nothing more.
    Partial,
    /// Sends a ping.
    Ping,
    /// Reads the history of its room, in JSON.
    Read {
        /// The number of the request.
        id: u64,
    },
    /// Resets the connection.
    Reset,
    /// Reads again.
    Resume,
    /// Reads no more than this.
    Sip {
        /// At least 1.
        bytes_per_second: u64,
    },
    /// Asks in its request for envelopes of JSON, for compressed messages, or for both.
    Speak {
        /// The subprotocol `busline.v1.json`.
        json: bool,
        /// permessage-deflate.
        deflate: bool,
    },
    /// Stops reading.
    Stop,
    /// Sends a text, in JSON with a request for a reply.
    Tell {
        /// The number of the request.
        id: u64,
        /// The text.
        text: String,
    },
    /// Sends a text one byte at a time.
    Trickle {
        /// The text.
        text: String,
    },
    /// Is gone without a trace.
    Vanish,
    /// Asks in its request for messages of the history of its room.
    Wish {
        /// The position that it shows.
        shows: Shows,
        /// So much is added to the offset of that position.
        ahead: u64,
        /// The number of the newest messages that it wants first.
        last: u64,
    },
}

/// The position that a client shows when it joins a room with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// The one before the first message, without an epoch.
    Beginning,
    /// None.
    Nothing,
    /// The last one that this client had.
    Of(u32),
}

/// What a client sends for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// What is no HTTP.
    Garbage,
    /// Half of a request, and nothing more.
    Half,
    /// A whole request, a byte every 200 ms.
    Slow,
}

/// A rule that a client breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offence {
    /// A close frame with a code that may not be sent.
    BadCloseCode,
    /// A handshake without a key; only as the first deed, at the time of connecting.
    BadHandshake,
    /// A text that is no UTF-8.
    BadUtf8,
    /// A ping in fragments.
    FragmentedPing,
    /// A continuation of nothing.
    LoneContinuation,
    /// A ping with more than 125 bytes.
    LongPing,
    /// An opcode without a meaning.
    ReservedOpcode,
    /// A message over the limit.
    TooLong,
    /// A frame without a mask.
    Unmasked,
}

impl Offence {
    /// The close code it is answered with: RFC 6455 7.4.1.
    pub fn code(self) -> u16 {
        match self {
            Self::BadCloseCode
            | Self::BadHandshake
            | Self::FragmentedPing
            | Self::LoneContinuation
            | Self::LongPing
            | Self::ReservedOpcode
            | Self::Unmasked => 1002,
            Self::BadUtf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

impl Wild {
    pub(crate) fn limits(&self) -> Limits {
        let nonzero = |value| NonZeroUsize::new(value).unwrap_or(NonZeroUsize::MIN);
        let millis = Duration::from_millis;
        let limits = Limits {
            message_bytes: self.message_bytes,
            window: Window {
                messages: nonzero(self.window_messages),
                bytes: self.window_bytes,
            },
            sessions: self.sessions,
            outbox_bytes: self.outbox_bytes,
            inbound_batch: nonzero(self.inbound_batch),
            keepalive: KeepalivePolicy {
                interval: millis(self.keepalive_ms),
                pong_timeout: millis(self.pong_timeout_ms),
            },
            message_timeout: millis(self.message_timeout_ms),
            accept_timeout: millis(self.accept_timeout_ms),
            write_timeout: millis(self.write_timeout_ms),
            close_timeout: millis(self.close_timeout_ms),
            handshake_timeout: millis(self.handshake_timeout_ms),
            // No client of a plan floods.
            pings: Rate::new(1_000_000, 1_000_000),
            // Longer than all others together, so that a drain that is cut off is a mistake.
            drain_timeout: DRAIN_TIMEOUT,
            drain: self.drain(),
            inbound: self.inbound.map(Inbound::policy).unwrap_or_default(),
            compress_bytes_min: match self.compress_bytes_min {
                None => Limits::default().compress_bytes_min,
                Some(least) => Some(nonzero(least)),
            },
            ..Limits::default()
        };
        let limits = match self.rooms {
            None => limits,
            Some(rooms) => rooms.limit(limits),
        };
        let limits = match self.calls {
            None => limits,
            Some(calls) => calls.limit(limits),
        };
        match self.journal {
            None => limits,
            Some(journal) => journal.limit(limits),
        }
    }

    fn drain(&self) -> DrainPolicy {
        let default = DrainPolicy::default();
        let per_second = self.drain_per_second.and_then(NonZeroU32::new);
        DrainPolicy {
            per_second: per_second.unwrap_or(default.per_second),
            ..default
        }
    }

    /// Whether a client that sends more than it may is read later.
    pub(crate) fn makes_wait(&self) -> bool {
        self.inbound.is_some_and(|inbound| !inbound.closes)
    }

    pub(crate) fn lifecycle(&self) -> LifecyclePolicy {
        LifecyclePolicy {
            linger: Duration::from_millis(self.linger_ms),
            stop_grace: Duration::from_millis(self.stop_grace_ms),
            backoff_max: Duration::from_secs(1),
            crashes_max: NonZeroU32::new(self.crashes_max).unwrap_or(NonZeroU32::MIN),
            crash_window: Duration::from_secs(5),
            cooldown: Duration::from_secs(2),
            ..LifecyclePolicy::default()
        }
    }

    pub(crate) fn slow_consumer(&self) -> SlowConsumer {
        if self.closes_slow {
            SlowConsumer::Close
        } else if self.keeps_latest {
            SlowConsumer::Latest
        } else {
            SlowConsumer::Skip
        }
    }
}

/// The longest drain of a wild plan.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(40);

/// Whether a close frame may have this code: RFC 6455 7.4.
pub(crate) fn is_legal_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
