//! Tells those who tap a client what becomes of its messages.

use serde_json::{Value, json};

use super::cause::Cause;
use crate::bus::{ClientId, InMemoryMessageBus, Tapped, Topic};
use crate::sync::{AtomicU64, Ordering};

/// The events of one client's session; without a tap of that client they cost one look at a number.
#[derive(Debug)]
pub(super) struct Teller {
    bus: InMemoryMessageBus,
    client: ClientId,
    /// The version of the bus's taps that this session has looked at last, and in the lowest bit
    /// whether its client was tapped then.
    known: AtomicU64,
}

impl Teller {
    pub(super) fn new(bus: InMemoryMessageBus, client: ClientId) -> Self {
        // No bus has this version, so that the first look notices a tap from before.
        let known = AtomicU64::new(u64::MAX);
        Self { bus, client, known }
    }

    /// Whose session it is.
    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// So many messages of a topic, from this number on, are to be written.
    #[inline]
    pub(super) fn queued(&self, topic: &Topic, first: u64, messages: usize) {
        self.tell(|| {
            let topic = topic.to_string();
            json!({ "event": "queued", "topic": topic, "first": first, "messages": messages })
        });
    }

    /// So many messages of a topic, from this number on, the client will not get.
    #[inline]
    pub(super) fn missed(&self, topic: &Topic, first: u64, messages: u64, reason: &str) {
        if messages > 0 {
            self.tell(|| {
                let topic = topic.to_string();
                json!({
                    "event": "lost",
                    "reason": reason,
                    "topic": topic,
                    "first": first,
                    "messages": messages,
                })
            });
        }
    }

    /// So many messages were lost on their way.
    #[inline]
    pub(super) fn lost(&self, messages: u64, reason: &str) {
        if messages > 0 {
            self.tell(|| json!({ "event": "lost", "reason": reason, "messages": messages }));
        }
    }

    /// So many messages were written to the socket.
    #[inline]
    pub(super) fn written(&self, messages: u64) {
        if messages > 0 {
            self.tell(|| json!({ "event": "written", "messages": messages }));
        }
    }

    /// Messages of these lengths came from the client.
    #[inline]
    pub(super) fn received(&self, lens: impl Iterator<Item = usize>) {
        if self.is_tapped() {
            for bytes in lens {
                self.tell(|| json!({ "event": "received", "bytes": bytes }));
            }
        }
    }

    /// The session ends.
    pub(super) fn closing(&self, cause: &Cause) {
        self.tell(|| json!({ "event": "closing", "reason": cause.reason().name() }));
    }

    #[inline]
    fn tell(&self, event: impl FnOnce() -> Value) {
        if self.is_tapped() {
            self.bus.tell(&Tapped::Client(self.client), event);
        }
    }

    /// Whether the client is tapped; as long as the taps of clients are the same, a look at their
    /// version.
    #[inline]
    pub(super) fn is_tapped(&self) -> bool {
        let version = self.bus.taps_version();
        // Only the session itself looks, so that no order with anything else is needed.
        let known = self.known.load(Ordering::Relaxed);
        if known >> 1 == version {
            return known & 1 == 1;
        }
        self.look_again(version)
    }

    #[cold]
    fn look_again(&self, version: u64) -> bool {
        let is_tapped = self.bus.is_client_tapped(self.client);
        let known = version << 1 | u64::from(is_tapped);
        self.known.store(known, Ordering::Relaxed);
        is_tapped
    }
}
