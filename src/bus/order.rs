//! The order of two topics: of the messages to all clients and of those to one.

use super::subscription::Subscription;

/// The topic that is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The messages to all before this offset.
    Broadcast {
        /// The offset.
        before: u64,
    },
    /// The next batch to this client.
    Direct,
    /// Neither topic had a message.
    Neither,
}

/// Tells which topic a client reads next, so that it receives the messages of one publisher in the
/// order in which they were published: a message to this client says how many messages to all were
/// published before it.
pub(crate) fn next_in_order(broadcast: &Subscription, direct: &Subscription) -> Due {
    // The messages that a subscription recovers are older than all to this client alone. They are
    // read whatever the bound says.
    if broadcast.has_backlog() {
        let before = broadcast.next_offset();
        return Due::Broadcast { before };
    }
    // Without a message to this client, the tail must be older than the look for one: each message
    // to this client that was published before a message to all below the tail is found then.
    let tail = broadcast.tail();
    let due = direct.next_due();
    // With one, the tail must be younger: the messages to all that were published before it count.
    // An offset beyond is of a topic that the bus has removed since.
    let before = due.map_or(tail, |offset| offset.min(broadcast.tail()));
    if broadcast.next_offset() < before {
        Due::Broadcast { before }
    } else if due.is_some() {
        Due::Direct
    } else {
        Due::Neither
    }
}
