//! The rules for the messages of one client: whether it may send, and what its room takes.

use serde::de::IgnoredAny;

use super::cause::Cause;
use crate::admission::authorize::Grant;
use crate::limits::{Payload, Publish, Relay, ServicePolicy};
use crate::wire::{DataKind, Frame, Frames};

/// The rules in force for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) may_publish: bool,
    /// The right of every client of the kind, where no grant says otherwise.
    by_default: bool,
    payload: Payload,
    /// `None` for a kind that runs a service.
    pub(super) relay: Option<Relay>,
}

impl Rules {
    /// The rules of a kind for a client with this grant.
    pub(super) fn new(policy: Option<&ServicePolicy>, grant: &Grant) -> Self {
        let publish = policy.map_or_else(Publish::default, |policy| policy.publish);
        let by_default = match publish {
            Publish::All | Publish::Members => true,
            Publish::Nobody => false,
        };
        Self {
            may_publish: grant.publish.unwrap_or(by_default),
            by_default,
            payload: policy.map_or_else(Payload::default, |policy| policy.payload),
            relay: policy.and_then(|policy| policy.relay),
        }
    }

    /// Takes over the rights of a newer grant.
    pub(super) fn renew(&mut self, grant: &Grant) {
        self.may_publish = grant.publish.unwrap_or(self.by_default);
    }

    /// The number of leading messages that are taken, and the cause to close the client for the
    /// first of the others; `None` if all are taken.
    #[inline]
    pub(super) fn refuse(&self, frames: &Frames) -> Option<(usize, Cause)> {
        if !self.may_publish {
            return Some((0, Cause::NotAllowed));
        }
        if self.payload == Payload::Any {
            return None;
        }
        let fit = frames.iter().take_while(|frame| self.is_fit(frame)).count();
        (fit < frames.len()).then_some((fit, Cause::Unfit(self.payload)))
    }

    fn is_fit(&self, frame: &Frame) -> bool {
        match self.payload {
            Payload::Any => true,
            Payload::Binary => frame.kind() == DataKind::Binary,
            Payload::Text => frame.kind() == DataKind::Text,
            Payload::Json => {
                let json = serde_json::from_slice::<IgnoredAny>(frame.payload_bytes());
                frame.kind() == DataKind::Text && json.is_ok()
            }
        }
    }
}
