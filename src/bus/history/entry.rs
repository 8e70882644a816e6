//! A record batch in a history.

use std::time::SystemTime;

use crate::bus::batch::Batch;
use crate::bus::message::{Client, Origin};

/// A record batch in a history.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) batch: Batch,
    /// The place of the first message in the log of the topic, as long as the topic lives.
    pub(super) place: u64,
    /// The time of the append, in milliseconds since the history began.
    pub(super) at: u64,
    /// The date and time of the append, for people.
    pub(super) wall: SystemTime,
    /// The bytes of memory for which the history counts the entry.
    pub(super) bytes: usize,
}

impl Entry {
    /// The offset of the first message.
    pub(super) fn first(&self) -> u64 {
        self.batch.offset().expect("a history stamps its batches")
    }

    /// The number of messages.
    pub(super) fn len(&self) -> u64 {
        self.batch.len() as u64
    }

    /// The offset after the last message.
    pub(super) fn end(&self) -> u64 {
        self.first() + self.len()
    }

    /// The bytes of memory that the entry keeps. Entries that share a block count it each.
    pub(super) fn pinned_bytes(&self) -> usize {
        size_of::<Self>() + self.batch.frames().pinned_bytes()
    }

    /// Drops the first `count` messages, fewer than there are. Their block of memory stays.
    pub(super) fn drop_front(&mut self, count: u64) {
        let count = usize::try_from(count).expect("a part of a batch");
        drop(self.batch.split_front(count));
        self.place += count as u64;
    }
}

/// Returns the origin as a history keeps it. A client is replaced by a snapshot without claims,
/// address and query, shared with `last` if that is of the same client.
pub(super) fn remembered(origin: &Origin, last: Option<&Origin>) -> Origin {
    match origin {
        Origin::Client(client) => {
            let last = last.and_then(Origin::client);
            let shared = last.filter(|last| is_same(last, client)).cloned();
            Origin::Client(shared.unwrap_or_else(|| client.remembered()))
        }
        Origin::Service(generation) => Origin::Service(*generation),
        Origin::Unknown => Origin::Unknown,
    }
}

/// Whether a snapshot shows this client: a client may come to another subject by a new token.
fn is_same(snapshot: &Client, client: &Client) -> bool {
    snapshot == client && snapshot.subject() == client.subject()
}
