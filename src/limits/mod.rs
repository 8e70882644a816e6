//! The bounds of the system, by name, each with its unit and its default.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::client::address::Network;

mod api;
mod history;
mod kind;
mod presence;
mod relay;

pub use self::api::{
    API_ADDRESSES_MAX, ApiLimits, BATCH_LOOKS_MAX, CHANNEL_PATTERN_BYTES_MAX, CHANNELS_LISTED_MAX,
    IDEMPOTENCY_KEY_BYTES_MAX, VERSION_EPOCH_BYTES_MAX,
};
pub use self::history::{
    HistoryFileLimits, HistoryLimits, HistoryPolicy, Readers, Recovery, Retention,
};
pub use self::kind::{ServicePolicy, SlowConsumer};
pub use self::presence::{HELD_LEAVES_MAX, Keep, PresenceLimits, PresencePolicy, Tell};
pub use self::relay::{Payload, Publish, Relay, RelayPolicy};

/// The longest name of a topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 255;

/// The longest name of a service or of a kind of rooms, in bytes; leaves space in a topic for the
/// prefix and a client's number.
pub const SERVICE_NAME_BYTES_MAX: usize = 64;

/// The longest key of a room, in bytes, after percent-decoding.
pub const ROOM_KEY_BYTES_MAX: usize = 255;

/// The longest channel `kind:key` of a room, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 255;

/// The longest method of a request to a service, in bytes.
pub const METHOD_BYTES_MAX: usize = 64;

/// The longest message of the error with which a service refuses a request, in bytes.
pub const REQUEST_ERROR_BYTES_MAX: usize = 255;

/// The codes of the errors with which services refuse requests.
pub const SERVICE_ERRORS: std::ops::RangeInclusive<u16> = 400..=1999;

/// The number of bytes that one read asks of a socket.
pub(crate) const READ_BYTES: usize = 8_192;

/// The longest time that a service may run without a wait before a warning is logged.
pub const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// The time for messages of a client to arrive once a drain begins, if the client has sent a
/// message before. Longer than the 40 ms after which systems acknowledge, as a client's system may
/// wait for that before it sends more (RFC 896).
pub const ON_THE_WAY: Duration = Duration::from_millis(50);

/// The longest token, in bytes; a longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 8_192;

/// The most keys that a token is checked with: a check of a signature takes up to two milliseconds.
///
/// Keys that the token names come first; only keys for its algorithm are tried.
pub const TOKEN_KEYS_MAX: usize = 4;

/// The number of reasons of refused requests (for their host or their page) that are kept for
/// operators; a further reason replaces the oldest.
pub const REFUSALS_KEPT: usize = 32;

/// The most bytes of a host and of an origin that are shown of a refused request.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 200;

/// The most lines in the log about such requests in a minute; the next line has the number of the
/// rest.
pub const REFUSAL_LINES: u32 = 10;

/// The interval of the signs of life on a tap without events.
pub const TAP_KEEPALIVE: Duration = Duration::from_secs(15);

/// The bounds of a running application; [`Limits::default`] has the default of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message that a client may send, in bytes; a longer one closes its session with
    /// 1009. Default 64 KiB.
    pub message_bytes: usize,
    /// The bounds of the messages that a topic keeps for its slowest subscriber.
    pub window: Window,
    /// The most sessions at once; the next client is answered 503. Default 131,072.
    pub sessions: usize,
    /// The most sessions at once of one address, IPv6 by its /64; the next client is answered 503.
    /// Default 131,072, as many as in all, because a proxy has a single address.
    pub sessions_per_address: usize,
    /// The most sessions at once of one subject; the next client is answered 503. Default 131,072.
    pub sessions_per_subject: usize,
    /// The most rooms at once; a client that would make a further room is refused. A room counts
    /// from its first client until it is over, its linger included. Default 100,000.
    pub rooms: usize,
    /// The most rooms at once that clients of one address have made, IPv6 by its /64; a client that
    /// would make a further room is refused. Default 100,000, as many as in all, because a proxy
    /// has a single address.
    pub rooms_per_address: usize,
    /// The most rooms at once that clients of one subject have made; a client that would make a
    /// further room is refused. Default 1,000.
    pub rooms_per_subject: usize,
    /// The bounds of the API for backends.
    pub api: ApiLimits,
    /// The bounds of all histories together.
    pub history: HistoryLimits,
    /// The bounds of the presence in each room.
    pub presence: PresenceLimits,
    /// The bounds of the file in which a server leaves its histories to the next one.
    pub history_file: HistoryFileLimits,
    /// The most services and kinds of rooms that an application registers. Default 65,536.
    pub services: usize,
    /// The most topics with a subscriber at once. Default 1,048,576.
    pub topics: usize,
    /// The smallest message that is compressed for clients that accept compression, in bytes; with
    /// `None`, permessage-deflate (RFC 7692) is agreed on with no client. Default 512.
    pub compress_bytes_min: Option<NonZeroUsize>,
    /// The most bytes that all sessions together hold for clients: bytes being written, answers
    /// that wait for the socket, incomplete messages. Above the bound, the sessions with most bytes
    /// are closed with 1013. The messages that all clients of a service share, bounded by
    /// [`Window`], are not counted. Default 1 GiB.
    pub queue_bytes: u64,
    /// The bytes that a session gathers for one write, at least one message; messages to all
    /// clients may add as many once more to a write under way. Default 16 KiB.
    pub outbox_bytes: usize,
    /// The number of clients that are served by the thread on which their service runs, on
    /// whichever thread they were accepted; further clients are spread over the threads. Default
    /// 128: with more clients, so many messages cross threads together that each costs little.
    pub home_clients: usize,
    /// The messages that a session takes from its socket before it lets other tasks run. Default
    /// 128.
    pub inbound_batch: NonZeroUsize,
    /// The rates at which a client may send. Default: as fast as its service receives.
    pub inbound: InboundPolicy,
    /// The rate of pings of one client that are answered; a ping beyond it closes the session with
    /// 1008. Default 10 a second, 100 at once.
    pub pings: Rate,
    /// The policy by which a session detects that its peer is gone.
    pub keepalive: KeepalivePolicy,
    /// The longest time from a message's first byte to its last, and a second more for each KiB of
    /// its payload that has come; a slower message closes its session with 1008. Time in which the
    /// client's socket is not read does not count. Zero is no bound. Default 60 s.
    pub message_timeout: Duration,
    /// The longest life of a session. Default: no bound.
    pub age: AgePolicy,
    /// The longest time that a session waits to hand a message to its service before it is closed
    /// with 1013. Default 60 s: longer than the longest backoff.
    pub accept_timeout: Duration,
    /// The longest time that a session holds back a client's message because answers to earlier
    /// messages still wait for its socket. Default 10 s.
    pub answers_timeout: Duration,
    /// The longest time from a request to the answer of its service, after which the caller is told
    /// of an internal error. Default 10 s.
    pub request_timeout: Duration,
    /// The most requests of one client that wait for an answer; a further one is refused with 111.
    /// Default 16.
    pub requests_per_client: NonZeroUsize,
    /// The most rooms that a client is in over one connection. Default 128; the server's own
    /// subprotocols have one.
    pub memberships: NonZeroUsize,
    /// The longest time without progress of a write before the connection is dropped. Default 60 s.
    pub write_timeout: Duration,
    /// The longest time that a closing session may take: last answers of its service, flush, close
    /// handshake, end of stream. Default 5 s.
    ///
    /// At most half of it is for the [answers](Self::turn_timeout).
    pub close_timeout: Duration,
    /// The most connections that are not yet upgraded, each a handshake or a plain request. A
    /// further connection displaces the oldest without a complete request head, of the address that
    /// has most such connections; if all are being served, further connections wait in the kernel's
    /// queue. Default 4,096.
    pub handshakes: NonZeroUsize,
    /// The most of these connections of one address, IPv6 by its /64, so that no address takes all
    /// places. A further connection displaces the oldest of the address without a complete request
    /// head; if all are being served, further connections are closed without a response. The bound
    /// does not apply to [`proxies`](Self::proxies). Default 1,024.
    pub handshakes_per_address: NonZeroUsize,
    /// The rate at which connections are accepted; further ones wait in the kernel's queue. Default
    /// 10,000 a second, 10,000 at once.
    pub accepts: Rate,
    /// The networks of proxies, whose `X-Forwarded-For` and `Forwarded` name the client. Default
    /// none, as any client can write such a header.
    pub proxies: Vec<Network>,
    /// The longest time from the moment a connection's first byte is due to the end of its request
    /// head; the client has as long again to take the response. Default 10 s.
    pub handshake_timeout: Duration,
    /// The largest request head, in bytes. Default 16 KiB.
    pub request_head_bytes: usize,
    /// The longest time from the shutdown signal to the end of `serve`. Default 30 s.
    pub drain_timeout: Duration,
    /// The pace at which sessions leave a draining server, once their service has dealt with
    /// arrived messages, see [`arrivals_timeout`](Self::arrivals_timeout). The last session leaves
    /// at the latest twice [`close_timeout`](Self::close_timeout) before the end of
    /// [`drain_timeout`](Self::drain_timeout).
    pub drain: DrainPolicy,
}

impl Limits {
    /// The longest time that a service has to answer messages that a client sent before it closed,
    /// or before a drain closes its session: half of [`close_timeout`](Self::close_timeout).
    pub fn turn_timeout(&self) -> Duration {
        self.close_timeout / 2
    }

    /// The longest time from the beginning of a drain in which arrived messages are handed to the
    /// services and answered, before any session leaves: as long as
    /// [`turn_timeout`](Self::turn_timeout), and at most a quarter of
    /// [`drain_timeout`](Self::drain_timeout).
    ///
    /// Messages that arrive within [`ON_THE_WAY`] count as arrived.
    pub fn arrivals_timeout(&self) -> Duration {
        self.turn_timeout().min(self.drain_timeout / 4)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            window: Window::default(),
            sessions: 131_072,
            sessions_per_address: 131_072,
            sessions_per_subject: 131_072,
            rooms: 100_000,
            rooms_per_address: 100_000,
            rooms_per_subject: 1_000,
            api: ApiLimits::default(),
            history: HistoryLimits::default(),
            presence: PresenceLimits::default(),
            history_file: HistoryFileLimits::default(),
            services: 65_536,
            topics: 1_048_576,
            compress_bytes_min: Some(nonzero(512)),
            queue_bytes: 1024 * 1024 * 1024,
            outbox_bytes: 16 * 1024,
            home_clients: 128,
            inbound_batch: nonzero(128),
            inbound: InboundPolicy::default(),
            pings: Rate::new(10, 100),
            keepalive: KeepalivePolicy::default(),
            message_timeout: Duration::from_secs(60),
            age: AgePolicy::default(),
            accept_timeout: Duration::from_secs(60),
            answers_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            requests_per_client: nonzero(16),
            memberships: nonzero(128),
            write_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            handshakes: nonzero(4_096),
            handshakes_per_address: nonzero(1_024),
            accepts: Rate::new(10_000, 10_000),
            proxies: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            request_head_bytes: 16 * 1024,
            drain_timeout: Duration::from_secs(30),
            drain: DrainPolicy::default(),
        }
    }
}

/// The rate of an event: a token bucket, see [`Bucket`](crate::Bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of events a second, in the long run.
    pub per_second: NonZeroU64,
    /// The number of events at once, after a pause.
    pub burst: NonZeroU64,
}

impl Rate {
    /// Makes a rate of `per_second` a second and `burst` at once; 0 counts as 1.
    pub const fn new(per_second: u64, burst: u64) -> Self {
        const fn at_least_one(value: u64) -> NonZeroU64 {
            match NonZeroU64::new(value) {
                Some(value) => value,
                None => NonZeroU64::MIN,
            }
        }
        Self {
            per_second: at_least_one(per_second),
            burst: at_least_one(burst),
        }
    }
}

/// The rates at which a client may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundPolicy {
    /// The rate of bytes on the connection, frames and control frames included. Default `None`: any
    /// number.
    pub bytes: Option<Rate>,
    /// The rate of messages. Default `None`: any number.
    pub messages: Option<Rate>,
    /// The treatment of a client above the rates.
    pub over: OverRate,
}

/// The treatment of a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// The client's session is closed with 1008.
    Close,
    /// The client's socket is not read for a while, and TCP slows the client down. No message is
    /// lost.
    #[default]
    Wait,
}

/// The longest life of a session. Each session draws its own time from the last quarter of these
/// times, so that sessions that began together do not end together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgePolicy {
    /// The longest time without a message in either direction, after which the session is closed
    /// with 1001. Default zero: no bound.
    pub idle: Duration,
    /// The longest time in all, after which the session is closed with 1001. Default zero: no
    /// bound.
    pub max: Duration,
}

/// The pace at which sessions leave a draining server: one after the other, as their clients come
/// back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// The most sessions that are closed in any second. Default 2,000.
    pub per_second: NonZeroU32,
    /// The shortest time over which the sessions are spread. Default zero: as fast as the rate
    /// allows.
    pub window: Duration,
    /// The close code that the clients get.
    pub code: DrainCode,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::new(2_000).expect("2,000 is not 0"),
            window: Duration::ZERO,
            code: DrainCode::default(),
        }
    }
}

/// The close code of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainCode {
    /// Code 1001: the server goes away.
    #[default]
    GoingAway,
    /// Code 1012: another server is there, or this server will soon be back.
    Restart,
}

/// The bounds of the messages that a topic keeps for subscribers that have not read them yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The most messages. Default 256.
    pub messages: NonZeroUsize,
    /// The most payload bytes; the newest message is kept even if it alone is larger. Default 1
    /// MiB.
    pub bytes: usize,
}

/// The window of the notices of joins and leaves in a room, whatever the window of its messages.
pub(crate) const PRESENCE_WINDOW: Window = Window {
    messages: NonZeroUsize::new(256).expect("not 0"),
    bytes: 4 * 1024 * 1024,
};

/// The bounds of the events that a tap keeps.
pub(crate) const TAP_WINDOW: Window = Window {
    messages: nonzero(4096),
    bytes: 1024 * 1024,
};

impl Default for Window {
    fn default() -> Self {
        Self {
            messages: nonzero(256),
            bytes: 1024 * 1024,
        }
    }
}

/// The times at which a session sends pings and takes its peer for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePolicy {
    /// The silence after which a ping is sent; zero sends none. Default 25 s.
    pub interval: Duration,
    /// The time for the answer to a ping, from when the socket has taken the ping: any byte is an
    /// answer. Without an answer the session is closed with 1011. Default 10 s.
    pub pong_timeout: Duration,
}

impl Default for KeepalivePolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
        }
    }
}

/// The policy by which a service is started again, stopped and given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecyclePolicy {
    /// The most clients at once of a service or of one room; the next client is refused. Default
    /// [`usize::MAX`], which leaves [`Limits::sessions`] as the bound.
    pub clients_max: usize,
    /// The time that an instance is kept without a client. Default 0: it stops with its last
    /// client.
    pub linger: Duration,
    /// The time that an instance has to return once it is told to stop, before it is aborted.
    /// Default 5 s.
    pub stop_grace: Duration,
    /// The wait after the first crash; doubles with each further crash. Default 100 ms.
    pub backoff_min: Duration,
    /// The longest wait after a crash. Default 30 s.
    pub backoff_max: Duration,
    /// The crashes within [`crash_window`](Self::crash_window) that make a service Failed. Default
    /// 5.
    pub crashes_max: NonZeroU32,
    /// The time over which crashes are counted; an instance that lives longer starts the count
    /// afresh. Default 60 s.
    pub crash_window: Duration,
    /// The time that a Failed service refuses clients before one trial start. Default 60 s.
    pub cooldown: Duration,
}

impl LifecyclePolicy {
    /// The default of a kind of rooms: a room lingers for 30 s, so that no reload of a page ends
    /// it, and has at most 10,000 clients.
    pub fn of_rooms() -> Self {
        Self {
            clients_max: 10_000,
            linger: Duration::from_secs(30),
            ..Self::default()
        }
    }
}

impl Default for LifecyclePolicy {
    fn default() -> Self {
        Self {
            clients_max: usize::MAX,
            linger: Duration::ZERO,
            stop_grace: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            crashes_max: NonZeroU32::new(5).expect("5 is not 0"),
            crash_window: Duration::from_secs(60),
            cooldown: Duration::from_secs(60),
        }
    }
}

/// The times at which the published keys of a token issuer are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPolicy {
    /// The time from a fetch that brought keys to the next one. Default 5 min.
    pub refresh: Duration,
    /// The shortest time from the end of a fetch caused by tokens with an unknown key to the next
    /// such fetch. Default 5 s.
    pub cooldown: Duration,
    /// The wait after a failed fetch; doubles with each further failure. Each wait is shortened by
    /// up to a quarter, so that servers that started together do not fetch together. Default 1 s.
    pub retry_min: Duration,
    /// The longest wait after a failed fetch, unless `refresh` is shorter. Default 30 s.
    pub retry_max: Duration,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(5),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
        }
    }
}

const fn nonzero(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => panic!("a default limit is not zero"),
    }
}
