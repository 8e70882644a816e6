//! Reports the events of a client's messages to the taps of that client.

use serde_json::{Value, json};

use super::cause::Cause;
use crate::bus::{ClientId, InMemoryMessageBus, Tapped, Topic};
use crate::sync::{AtomicU64, Ordering};

/// The tap events of one client's session. Without a tap of the client, an event costs one atomic
/// load.
#[derive(Debug)]
pub(super) struct TapReporter {
    bus: InMemoryMessageBus,
    client: ClientId,
    /// The version of the bus's taps at the last look, and in the lowest bit whether the client was
    /// tapped then.
    known: AtomicU64,
}

impl TapReporter {
    pub(super) fn new(bus: InMemoryMessageBus, client: ClientId) -> Self {
        // No bus has this version, so the first event looks for existing taps.
        let known = AtomicU64::new(u64::MAX);
        Self { bus, client, known }
    }

    /// The client of the session.
    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// Reports that `messages` messages of a topic, from the offset `first` on, are queued for
    /// writing.
    #[inline]
    pub(super) fn queued(&self, topic: &Topic, first: u64, messages: usize) {
        self.tell(|| {
            let topic = topic.to_string();
            json!({ "event": "queued", "topic": topic, "first": first, "messages": messages })
        });
    }

    /// Reports that the client misses `messages` messages of a topic, from the offset `first` on.
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

    /// Reports messages that were lost on their way.
    #[inline]
    pub(super) fn lost(&self, messages: u64, reason: &str) {
        if messages > 0 {
            self.tell(|| json!({ "event": "lost", "reason": reason, "messages": messages }));
        }
    }

    /// Reports messages that were written to the socket.
    #[inline]
    pub(super) fn written(&self, messages: u64) {
        if messages > 0 {
            self.tell(|| json!({ "event": "written", "messages": messages }));
        }
    }

    /// Reports messages of these lengths that came from the client.
    #[inline]
    pub(super) fn received(&self, lens: impl Iterator<Item = usize>) {
        if self.is_tapped() {
            for bytes in lens {
                self.tell(|| json!({ "event": "received", "bytes": bytes }));
            }
        }
    }

    /// Reports that the session ends.
    pub(super) fn closing(&self, cause: &Cause) {
        self.tell(|| json!({ "event": "closing", "reason": cause.reason().name() }));
    }

    #[inline]
    fn tell(&self, event: impl FnOnce() -> Value) {
        if self.is_tapped() {
            self.bus.tell(&Tapped::Client(self.client), event);
        }
    }

    /// Whether the client is tapped; a comparison of versions as long as no tap comes or goes.
    #[inline]
    pub(super) fn is_tapped(&self) -> bool {
        let version = self.bus.taps_version();
        // Only this session's task uses `known`, so no ordering with other memory is needed.
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
