//! A record batch in a history.

use std::time::{Duration, SystemTime};

use crate::bus::batch::Batch;
use crate::bus::delivery::Delivery;
use crate::bus::label::Label;
use crate::bus::origin::{Client, Origin};
use crate::bus::topic::ClientId;
use crate::wire::Frames;

/// A record batch in a history, in less memory than a [`Batch`]: there is one for each message that
/// came alone.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    frames: Frames,
    label: Label,
    addressed: Addressed,
    first: u64,
    /// The place of the first message in the log of the topic, as long as the topic lives.
    pub(super) place: u64,
    /// The time of the append, in milliseconds since the history began.
    pub(super) at: u64,
    /// The date and time of the append in milliseconds since 1970, for people.
    wall: u64,
    /// The bytes of memory for which the history counts the entry.
    pub(super) bytes: usize,
}

/// The time of an append, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    /// Milliseconds since the history began.
    pub(super) at: u64,
    pub(super) wall: SystemTime,
}

/// The receivers of a batch while it was live: all clients but the one with this number. No client
/// has the numbers that stand for all clients, and for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addressed(u64);

impl Addressed {
    const ALL: Self = Self(u64::MAX);
    const END: Self = Self(u64::MAX - 1);

    fn of(delivery: &Delivery) -> Self {
        match delivery {
            Delivery::Except(client) => Self(client.number()),
            Delivery::End => Self::END,
            Delivery::After(_)
            | Delivery::Close(..)
            | Delivery::Everyone
            | Delivery::Request(_) => Self::ALL,
        }
    }

    fn delivery(self) -> Delivery {
        match self {
            Self::ALL => Delivery::Everyone,
            Self::END => Delivery::End,
            Self(client) => Delivery::Except(ClientId::new(client)),
        }
    }
}

impl Entry {
    /// Makes the entry of a batch that the history has stamped with its offset; `label` is its
    /// label as a history keeps it.
    pub(super) fn new(batch: &Batch, label: Label, place: u64, appended: Appended) -> Self {
        let since = appended.wall.duration_since(SystemTime::UNIX_EPOCH);
        let mut entry = Self {
            frames: batch.frames().clone(),
            label,
            addressed: Addressed::of(batch.delivery()),
            first: batch.offset().expect("a history stamps its batches"),
            place,
            at: appended.at,
            wall: since.map_or(0, super::millis),
            bytes: 0,
        };
        entry.bytes = entry.pinned_bytes();
        entry
    }

    /// The messages as a batch with its offset.
    pub(super) fn batch(&self) -> Batch {
        let batch = Batch::labelled(self.frames.clone(), self.label.clone());
        let mut batch = batch.delivered(self.addressed.delivery());
        batch.set_offset(self.first);
        batch
    }

    /// The messages from index `from` on, at most `count` and at least one of them.
    pub(super) fn slice(&self, from: usize, count: usize) -> Batch {
        self.batch().slice(from, count)
    }

    /// Whether the entry is the end of the history.
    pub(super) fn is_end(&self) -> bool {
        self.addressed == Addressed::END
    }

    pub(super) fn origin(&self) -> &Origin {
        self.label.origin()
    }

    /// The date and time of the append, in whole milliseconds.
    pub(super) fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.wall)
    }

    /// The offset of the first message.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of messages.
    pub(super) fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The offset after the last message.
    pub(super) fn end(&self) -> u64 {
        self.first() + self.len()
    }

    /// The bytes of memory that the entry keeps. Entries that share a block count it each.
    pub(super) fn pinned_bytes(&self) -> usize {
        size_of::<Self>() + self.frames.pinned_bytes() + self.label.pinned_bytes()
    }

    /// Drops the first `count` messages, fewer than there are. Their block of memory stays.
    pub(super) fn drop_front(&mut self, count: u64) {
        let front = usize::try_from(count).expect("a part of a batch");
        drop(self.frames.split_front(front));
        self.first += count;
        self.place += count;
    }
}

/// Returns the label as a history keeps it. A client is replaced by a snapshot without claims,
/// address and query, shared with `last` if that is of the same client.
pub(super) fn remembered(label: &Label, last: Option<&Origin>) -> Label {
    match label.origin() {
        Origin::Client(client) => {
            let last = last.and_then(Origin::client);
            let shared = last.filter(|last| is_same(last, client)).cloned();
            let shared = shared.unwrap_or_else(|| client.remembered());
            label.with_origin(Origin::Client(shared))
        }
        Origin::Service(_) | Origin::Unknown => label.clone(),
    }
}

/// Whether a snapshot shows this client: a client may come to another subject by a new token.
fn is_same(snapshot: &Client, client: &Client) -> bool {
    snapshot == client && snapshot.subject() == client.subject()
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;

    /// A kept message costs its frame and its entry.
    #[test]
    fn an_entry_stays_small() {
        let bytes = size_of::<Entry>();
        assert!(bytes <= 96, "{bytes} bytes");
    }
}
