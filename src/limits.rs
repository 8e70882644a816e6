//! Every bound of the system by name, with its unit and its default.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::client::address::Network;

/// Longest name of a topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 255;

/// Longest name of a service, in bytes; leaves room in a topic for the prefix and a client's
/// number.
pub const SERVICE_NAME_BYTES_MAX: usize = 64;

/// Bytes asked of a socket in one read.
pub(crate) const READ_BYTES: usize = 8_192;

/// Longest time a service may go on without a wait before it is told of.
pub const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// Time for what a client has sent to arrive once a drain begins, if it has said something before:
/// longer than the 40 ms after which systems acknowledge, which a client's system may wait for
/// before it sends more (RFC 896).
pub const ON_THE_WAY: Duration = Duration::from_millis(50);

/// Longest token, in bytes; a longer one is refused before anybody looks into it.
pub const TOKEN_BYTES_MAX: usize = 8_192;

/// Most keys that one token is checked with: a check of a signature takes up to two milliseconds.
///
/// Keys that the token names go first, and all of them are for its algorithm.
pub const TOKEN_KEYS_MAX: usize = 4;

/// Reasons why requests were refused for their host or their page that are kept for operators; one
/// more takes the place of the oldest.
pub const REFUSALS_KEPT: usize = 32;

/// Most bytes of a host and of an origin that are shown of a request that was refused.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 200;

/// Most lines that the log has in a minute about such requests; the next one counts the rest.
pub const REFUSAL_LINES: u32 = 10;

/// Time between two signs of life of a tap on which nothing happens.
pub const TAP_KEEPALIVE: Duration = Duration::from_secs(15);

/// The bounds of one running application; [`Limits::default`] has the values named at each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message a client may send, in bytes; a longer one closes its session with 1009.
    /// Default 64 KiB.
    pub message_bytes: usize,
    /// What a topic keeps for its slowest subscriber.
    pub window: Window,
    /// Most sessions at once; the next client is answered 503. Default 131,072.
    pub sessions: usize,
    /// Most sessions at once of one address, IPv6 by its /64; the next client is answered 503.
    /// Default 131,072: no fewer than in all, as a proxy has but one address.
    pub sessions_per_address: usize,
    /// Most sessions at once of one subject; the next client is answered 503. Default 131,072.
    pub sessions_per_subject: usize,
    /// Most services an application registers. Default 65,536.
    pub services: usize,
    /// Most topics with a subscriber at once. Default 1,048,576.
    pub topics: usize,
    /// Smallest message that is compressed for clients that can read it, in bytes; `None` agrees
    /// with nobody on permessage-deflate (RFC 7692). Default 512.
    pub compress_bytes_min: Option<NonZeroUsize>,
    /// Most bytes that all sessions together hold for clients: what is being written, answers that
    /// wait for the socket, messages that have not arrived in full. Above it those who hold most
    /// are closed with 1013. What all clients of a service share, its [`Window`], comes on top.
    /// Default 1 GiB.
    pub queue_bytes: u64,
    /// Bytes a session gathers for one write, at least one message; as many again may be added once
    /// to what is under way, of what everybody gets. Default 16 KiB.
    pub outbox_bytes: usize,
    /// Clients of a service that are served by the thread on which it runs, wherever they were
    /// accepted; further ones are spread over the threads. Default 128: from there on so much
    /// crosses threads at once that it costs little more.
    pub home_clients: usize,
    /// Messages a session takes from its socket before it lets other tasks run. Default 128.
    pub inbound_batch: NonZeroUsize,
    /// How much one client may send. Default: as much as its service takes.
    pub inbound: InboundPolicy,
    /// Pings of one client that are answered; one more closes its session with 1008.
    /// Default 10 a second, 100 at once.
    pub pings: Rate,
    /// How a session finds out that its peer is gone.
    pub keepalive: KeepalivePolicy,
    /// Longest time from a message's first byte to its last, and a second more for each KiB of its
    /// payload that has come; a slower one closes its session with 1008. Time in which the client
    /// is not read does not count. Zero is any time. Default 60 s.
    pub message_timeout: Duration,
    /// How long a session may last. Default: as long as its client likes.
    pub age: AgePolicy,
    /// Longest time a session waits to hand one message to its service before it is closed with
    /// 1013. Default 60 s: longer than the longest backoff.
    pub accept_timeout: Duration,
    /// Longest time a session holds a client's message back because answers to earlier ones still
    /// wait for its socket. Default 10 s.
    pub answers_timeout: Duration,
    /// Longest time a write may make no progress before the connection is dropped. Default 60 s.
    pub write_timeout: Duration,
    /// Longest time a closing session may take: what its service still answers, flush, close
    /// handshake, end of stream. Default 5 s.
    ///
    /// Half of it at most is for the [answers](Self::turn_timeout).
    pub close_timeout: Duration,
    /// Most connections that are not yet upgraded, each a handshake or a plain request. For one
    /// more the oldest gives way that has not sent a whole request head, of the address that has
    /// most of these; where all are being served, further ones wait in the kernel's queue.
    /// Default 4,096.
    pub handshakes: NonZeroUsize,
    /// Most of these of one address, IPv6 by its /64, so that nobody takes all places. For one more
    /// the oldest of the address gives way that has not sent a whole request head; where all are
    /// being served, further ones are closed without a word. [`proxies`](Self::proxies) have no
    /// such bound. Default 1,024.
    pub handshakes_per_address: NonZeroUsize,
    /// Connections that are accepted; further ones wait in the kernel's queue. Default 10,000 a
    /// second, 10,000 at once.
    pub accepts: Rate,
    /// Networks of proxies, whose `X-Forwarded-For` and `Forwarded` name the client. Default none:
    /// anybody can write such a header.
    pub proxies: Vec<Network>,
    /// Longest time from a connection's first byte due to the end of its request head; its client
    /// has as long again to take the response. Default 10 s.
    pub handshake_timeout: Duration,
    /// Largest request head, in bytes. Default 16 KiB.
    pub request_head_bytes: usize,
    /// Longest time from the shutdown signal to the end of `serve`. Default 30 s.
    pub drain_timeout: Duration,
    /// How sessions leave a draining server, once their service has dealt with what had arrived,
    /// see [`arrivals_timeout`](Self::arrivals_timeout); the last one at the latest twice
    /// [`close_timeout`](Self::close_timeout) before the end of
    /// [`drain_timeout`](Self::drain_timeout).
    pub drain: DrainPolicy,
}

impl Limits {
    /// Longest time that a service has to answer what a client said before it closed, or before a
    /// drain closes it: half of [`close_timeout`](Self::close_timeout).
    pub fn turn_timeout(&self) -> Duration {
        self.close_timeout / 2
    }

    /// Longest time from the begin of a drain in which what had arrived by then is handed to the
    /// services and answered, before any session leaves: as long as
    /// [`turn_timeout`](Self::turn_timeout), and no more than a quarter of
    /// [`drain_timeout`](Self::drain_timeout).
    ///
    /// What is [`ON_THE_WAY`] then counts as well.
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

/// How often something may happen: a token bucket, see [`Bucket`](crate::Bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU64,
    /// At once, after a pause.
    pub burst: NonZeroU64,
}

impl Rate {
    /// So many a second, so many at once; one instead of none.
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

/// How much one client may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundPolicy {
    /// Bytes as they come over the connection, frames and control frames included.
    /// Default `None`: any number.
    pub bytes: Option<Rate>,
    /// Messages. Default `None`: any number.
    pub messages: Option<Rate>,
    /// What happens to more.
    pub over: OverRate,
}

/// What happens to a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// Its session is closed with 1008.
    Close,
    /// Its socket is not read for a while, and TCP slows it down. Nothing is lost.
    #[default]
    Wait,
}

/// How long a session may last; each session's own time is drawn from the last quarter of these, so
/// that sessions that began together do not end together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgePolicy {
    /// Longest time without a message in either direction, then it is closed with 1001. Default
    /// zero: any time.
    pub idle: Duration,
    /// Longest time in all, then it is closed with 1001. Default zero: any time.
    pub max: Duration,
}

/// How sessions leave a draining server: one after the other, so that those who come back at once
/// do not come all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// Most sessions that are closed in any second. Default 2,000.
    pub per_second: NonZeroU32,
    /// Time over which they are spread, at least. Default zero: as fast as the rate allows.
    pub window: Duration,
    /// What their clients are told.
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
    /// 1001.
    #[default]
    GoingAway,
    /// 1012: another server is there, or this one will soon be back.
    Restart,
}

/// What a topic keeps of its newest messages for subscribers that have not read them yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Most messages. Default 256.
    pub messages: NonZeroUsize,
    /// Most payload bytes; the newest message is kept even when it alone is larger.
    /// Default 1 MiB.
    pub bytes: usize,
}

/// What is kept of a tap's newest events.
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

/// When a session sends pings and when it takes its peer for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePolicy {
    /// Silence after which a ping is sent; zero sends none. Default 25 s.
    pub interval: Duration,
    /// Time for the answer to a ping, from when the socket has taken it: any byte is one. Without
    /// an answer the session is closed with 1011. Default 10 s.
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

/// How a service is started again, stopped and given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecyclePolicy {
    /// Time an instance is kept without a client. Default 0: it stops with its last client.
    pub linger: Duration,
    /// Time an instance has to return once it is told to stop; then it is aborted. Default 5 s.
    pub stop_grace: Duration,
    /// Wait after the first crash; doubles with each further one. Default 100 ms.
    pub backoff_min: Duration,
    /// Longest wait after a crash. Default 30 s.
    pub backoff_max: Duration,
    /// Crashes within [`crash_window`](Self::crash_window) that make a service Failed. Default 5.
    pub crashes_max: NonZeroU32,
    /// Time over which crashes are counted; an instance that lives longer starts afresh.
    /// Default 60 s.
    pub crash_window: Duration,
    /// Time a Failed service refuses clients before one trial start. Default 60 s.
    pub cooldown: Duration,
}

impl Default for LifecyclePolicy {
    fn default() -> Self {
        Self {
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

/// When keys are fetched that an issuer of tokens publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPolicy {
    /// Time from a fetch that brought keys to the next one. Default 5 min.
    pub refresh: Duration,
    /// Shortest time from the end of a fetch that tokens caused, which name an unknown key, to the
    /// next such fetch. Default 5 s.
    pub cooldown: Duration,
    /// Wait after a fetch that failed; doubles with each further one. Each wait is up to a quarter
    /// shorter, so that servers which began together do not ask together. Default 1 s.
    pub retry_min: Duration,
    /// Longest wait after a fetch that failed, where `refresh` is not shorter. Default 30 s.
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

/// What happens to a client that reads more slowly than its service publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its session is closed with 1013 and the number of lost messages.
    Close,
    /// Of the messages to all it always gets the newest and never an older one: those that a newer
    /// one has overtaken are counted as superseded. For services that publish a state.
    Latest,
    /// It loses the oldest unread messages and stays; the losses are counted.
    #[default]
    Skip,
}

/// How one service is run and how it treats its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePolicy {
    /// How it is started again, stopped and given up.
    pub lifecycle: LifecyclePolicy,
    /// What happens to a client that reads more slowly than it publishes.
    pub slow_consumer: SlowConsumer,
    /// What each of its topics keeps. Default `None`: [`Limits::window`].
    pub window: Option<Window>,
    /// Largest message a client may send it, in bytes. Default `None`: [`Limits::message_bytes`].
    pub message_bytes: Option<usize>,
    /// How much one of its clients may send. Default `None`: [`Limits::inbound`].
    pub inbound: Option<InboundPolicy>,
}

const fn nonzero(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => panic!("a default limit is not zero"),
    }
}
