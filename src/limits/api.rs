//! The bounds of the API, by which a backend publishes, looks and acts.

use std::time::Duration;

use super::Rate;

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// The longest epoch of versions, in bytes: one is remembered for each room.
pub const VERSION_EPOCH_BYTES_MAX: usize = 256;

/// The most commands of a batch that read histories, clients or rooms, as their answers are long,
/// or that ask services, which are waited for.
pub const BATCH_LOOKS_MAX: usize = 16;

/// The most addresses whose wrong keys are counted; a further address takes the place of the
/// oldest.
pub const API_ADDRESSES_MAX: usize = 10_000;

/// The longest pattern by which channels are listed, in bytes.
pub const CHANNEL_PATTERN_BYTES_MAX: usize = 255;

/// The most channels in one answer.
pub const CHANNELS_LISTED_MAX: usize = 10_000;

/// The bounds of the API; [`ApiLimits::default`] has the default of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// The longest body of a request, in bytes; a longer one is answered 413. Default 1 MiB.
    pub body_bytes: usize,
    /// The most commands in a batch; more are refused with 106. Default 1,000.
    pub batch: usize,
    /// The most channels in a broadcast; more are refused with 106. Default 10,000.
    pub broadcast: usize,
    /// The most requests that are served at once; a further one is answered 503. Default 256.
    pub in_flight: usize,
    /// The most of these that wait for the answer of a service; a further `rpc` is refused with
    /// 111, so that a service that hangs keeps no other call from being served. Default 128.
    pub rpcs: usize,
    /// The most connections that are kept for the next call; above it a connection is closed after
    /// its response. Default 1,024.
    pub connections: usize,
    /// The longest time that a kept connection waits for the next call, before it is closed.
    /// Default 75 s.
    pub idle_timeout: Duration,
    /// The most idempotency keys that are remembered; a further key takes the place of the oldest.
    /// Default 100,000.
    pub idempotency_keys: usize,
    /// The time for which an idempotency key is remembered. Default 5 min.
    pub idempotency_ttl: Duration,
    /// The most rooms whose last version is remembered; a further room takes the place of the one
    /// that was published to first. Default 100,000.
    pub versions: usize,
    /// The rate at which wrong keys of one address are answered 401; further ones are answered 429.
    /// Default 10 a second, 100 at once.
    pub wrong_keys: Rate,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            batch: 1_000,
            broadcast: 10_000,
            in_flight: 256,
            rpcs: 128,
            connections: 1_024,
            idle_timeout: Duration::from_secs(75),
            idempotency_keys: 100_000,
            idempotency_ttl: Duration::from_secs(300),
            versions: 100_000,
            wrong_keys: Rate::new(10, 100),
        }
    }
}
