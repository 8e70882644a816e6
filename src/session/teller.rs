//! Tells those who tap a client what becomes of its messages.

use serde_json::{Value, json};

use super::cause::Cause;
use crate::bus::{ClientId, InMemoryMessageBus, Tapped, Topic};

/// The voice of one client's session; without a tap on anything it costs one look at a counter.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    bus: InMemoryMessageBus,
    client: ClientId,
}

impl Teller {
    pub(super) fn new(bus: InMemoryMessageBus, client: ClientId) -> Self {
        Self { bus, client }
    }

    /// Whose session it is.
    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// So many messages of a topic, from this number on, are to be written.
    #[inline]
    pub(super) fn queued(&self, topic: &Topic, first: u64, messages: usize) {
        self.tell(|| {
            let topic = topic.as_str();
            json!({ "event": "queued", "topic": topic, "first": first, "messages": messages })
        });
    }

    /// So many messages of a topic, from this number on, the client will not get.
    #[inline]
    pub(super) fn missed(&self, topic: &Topic, first: u64, messages: u64, reason: &str) {
        if messages > 0 {
            self.tell(|| {
                let topic = topic.as_str();
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

    /// A message came from the client.
    #[inline]
    pub(super) fn received(&self, bytes: usize) {
        self.tell(|| json!({ "event": "received", "bytes": bytes }));
    }

    /// Messages of these lengths came from the client together.
    #[inline]
    pub(super) fn received_together(&self, lens: impl Iterator<Item = usize>) {
        if self.bus.is_tapped() {
            lens.for_each(|bytes| self.received(bytes));
        }
    }

    /// The session ends.
    pub(super) fn closing(&self, cause: &Cause) {
        self.tell(|| json!({ "event": "closing", "reason": cause.reason().name() }));
    }

    #[inline]
    fn tell(&self, event: impl FnOnce() -> Value) {
        if self.bus.is_tapped() {
            self.bus.tell(&Tapped::Client(self.client), event);
        }
    }
}
