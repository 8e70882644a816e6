//! The counters of a topic and of a bus.

use super::topic::Topic;

/// The totals of a topic.
///
/// At all times `owed = delivered + lost_lagged + lost_superseded + lost_unsubscribed +
/// pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCounts {
    /// Messages published.
    pub published: u64,
    /// Deliveries due: for each message published, the subscribers it then had, and the later
    /// subscribers that were to recover it.
    pub owed: u64,
    /// Deliveries made, messages read from a history included.
    pub delivered: u64,
    /// Deliveries lost because the subscriber fell out of the window.
    pub lost_lagged: u64,
    /// Deliveries left out because the subscriber wants only the newest message.
    pub lost_superseded: u64,
    /// Deliveries given up because the subscriber left with the message unread.
    pub lost_unsubscribed: u64,
    /// Replies to a client that had left. The topic had no subscriber, so these are not in `owed`.
    pub lost_gone: u64,
    /// Deliveries still in the window. With a history also deliveries out of the window of which
    /// the subscriber has neither read the message nor been told the loss.
    pub pending: u64,
}

impl TopicCounts {
    /// The deliveries that were made, were lost or are still in the window.
    pub(crate) fn accounted(&self) -> u64 {
        let lost = self.lost_lagged + self.lost_superseded + self.lost_unsubscribed;
        self.delivered + lost + self.pending
    }

    /// Adds another topic's counts to these.
    pub(crate) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.owed += other.owed;
        self.delivered += other.delivered;
        self.lost_lagged += other.lost_lagged;
        self.lost_superseded += other.lost_superseded;
        self.lost_unsubscribed += other.lost_unsubscribed;
        self.lost_gone += other.lost_gone;
        self.pending += other.pending;
    }
}

/// The state and the totals of a bus. The figures of each topic were read at one moment; the topics
/// one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    /// Topics that have a subscriber.
    pub topics: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Payload bytes kept for subscribers that have not read them.
    pub bytes: usize,
    /// Sums over all present and removed topics.
    pub messages: TopicCounts,
}

/// The state and the totals of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// The name of the topic.
    pub topic: Topic,
    /// The number of subscribers.
    pub subscribers: usize,
    /// The number of messages kept for subscribers that have not read them.
    pub messages: usize,
    /// The payload bytes of the kept messages.
    pub bytes: usize,
    /// The totals since the first subscriber.
    pub counts: TopicCounts,
}
