//! What a topic and a bus count.

use super::topic::Topic;

/// What a topic has done with the messages published on it.
///
/// At every moment `owed = delivered + lost_lagged + lost_superseded + lost_unsubscribed +
/// pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCounts {
    /// Messages published.
    pub published: u64,
    /// Deliveries due: for each message published, the subscribers it then had.
    pub owed: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Deliveries lost because the subscriber fell out of the window.
    pub lost_lagged: u64,
    /// Deliveries left out because the subscriber wants only the newest message.
    pub lost_superseded: u64,
    /// Deliveries given up because the subscriber left with the message unread.
    pub lost_unsubscribed: u64,
    /// Replies to a client that had left. Nobody was subscribed, so that none of them was owed.
    pub lost_gone: u64,
    /// Deliveries still in the window.
    pub pending: u64,
}

impl TopicCounts {
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

/// What the bus holds and has done; each topic's part is of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    /// Topics that have a subscriber.
    pub topics: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Payload bytes kept for subscribers that have not read them.
    pub bytes: usize,
    /// Sums over all topics there are and were.
    pub messages: TopicCounts,
}

/// What one topic holds and has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its name.
    pub topic: Topic,
    /// Those subscribed to it.
    pub subscribers: usize,
    /// Messages kept for those that have not read them.
    pub messages: usize,
    /// Their payload bytes.
    pub bytes: usize,
    /// What it has done since it got its first subscriber.
    pub counts: TopicCounts,
}
