//! Every bound of the system by name, with its unit and its default.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Longest name of a topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 255;

/// Longest name of a service, in bytes; leaves room in a topic for the prefix and a client's
/// number.
pub const SERVICE_NAME_BYTES_MAX: usize = 64;

/// Longest token, in bytes; a longer one is refused before anybody looks into it.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

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
    /// Most services an application registers. Default 65,536.
    pub services: usize,
    /// Most topics with a subscriber at once. Default 1,048,576.
    pub topics: usize,
    /// Bytes a session gathers for one write, at least one message. Default 16 KiB.
    pub outbox_bytes: usize,
    /// Messages a session takes from its socket before it lets other tasks run. Default 64.
    pub inbound_batch: NonZeroUsize,
    /// How a session finds out that its peer is gone.
    pub keepalive: KeepalivePolicy,
    /// Longest time a session waits to hand one message to its service before it is closed with
    /// 1013. Default 60 s: longer than the longest backoff.
    pub accept_timeout: Duration,
    /// Longest time a session holds a client's message back because answers to earlier ones still
    /// wait for its socket. Default 10 s.
    pub answers_timeout: Duration,
    /// Longest time a write may make no progress before the connection is dropped. Default 60 s.
    pub write_timeout: Duration,
    /// Longest time a closing session may take: flush, close handshake, end of stream.
    /// Default 5 s.
    pub close_timeout: Duration,
    /// Most connections that are not yet upgraded, each a handshake or a plain request; further
    /// ones wait in the kernel's queue. Default 4,096.
    pub handshakes: NonZeroUsize,
    /// Longest time from a connection's first byte due to the end of its request head.
    /// Default 10 s.
    pub handshake_timeout: Duration,
    /// Largest request head, in bytes. Default 16 KiB.
    pub request_head_bytes: usize,
    /// Longest time from the shutdown signal to the end of `serve`. Default 10 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            window: Window::default(),
            sessions: 131_072,
            services: 65_536,
            topics: 1_048_576,
            outbox_bytes: 16 * 1024,
            inbound_batch: nonzero(64),
            keepalive: KeepalivePolicy::default(),
            accept_timeout: Duration::from_secs(60),
            answers_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            handshakes: nonzero(4_096),
            handshake_timeout: Duration::from_secs(10),
            request_head_bytes: 16 * 1024,
            drain_timeout: Duration::from_secs(10),
        }
    }
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
    /// Silence after which a ping is sent, and between pings; zero sends none. Default 30 s.
    pub interval: Duration,
    /// Pings left unanswered, each for an interval, before the peer counts as dead. Default 2.
    pub missed_max: NonZeroU32,
}

impl Default for KeepalivePolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            missed_max: NonZeroU32::new(2).expect("2 is not 0"),
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

/// What one service asks for, where that is not what all do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePolicy {
    /// How it is started again, stopped and given up.
    pub lifecycle: LifecyclePolicy,
    /// What happens to its slow clients.
    pub slow_consumer: SlowConsumer,
    /// What each of its topics keeps.
    pub window: Window,
    /// Largest message a client may send it, in bytes; a longer one closes its session with 1009.
    pub message_bytes: usize,
}

/// What happens to a client that reads more slowly than its service publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its session is closed with 1013 and the number of lost messages.
    Close,
    /// It loses the oldest unread messages and stays; the losses are counted.
    #[default]
    Skip,
}

const fn nonzero(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => panic!("a default limit is not zero"),
    }
}
