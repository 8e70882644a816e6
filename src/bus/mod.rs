//! The message bus: topics are the only contract between clients and services.

mod room;

mod topic;

mod tags;

mod origin;

mod label;

mod message;

mod request;

mod delivery;

mod batch;

mod burst;

mod history;

mod counts;

mod log;

mod processed;

mod reader;

mod state;

mod taps;

mod topics;

mod publisher;

mod subscription;

mod order;

mod shared_cursor;

mod tap;

mod memory;

pub mod contract;

#[cfg(all(test, feature = "loom"))]
mod models;

pub use self::batch::Batch;
pub use self::counts::{BusCounts, TopicCounts, TopicStatus};
pub use self::history::{
    Cause, Dropped, END_BYTES_MAX, EndError, Ended, Epoch, Histories, HistoryCounts, HistoryError,
    Maker, Moment, Page, Position, PositionError, Reading, Recorded, Saved, SavedBatch, Since, Why,
};
pub use self::memory::InMemoryMessageBus;
pub use self::message::Message;
pub(crate) use self::origin::About;
pub use self::origin::{Client, Generation, Origin};
pub use self::publisher::{Offered, Publisher};
pub use self::reader::{Joined, Joining, Start};
pub use self::request::{Answered, Caller, Request, RequestError, Responder};
pub use self::room::{NameError, Room, ServiceName};
pub use self::subscription::{Received, Subscription};
pub use self::tags::{BadTags, Tags};
pub use self::tap::Tap;
pub use self::taps::Tapped;
pub use self::topic::{ClientId, Topic};
pub use self::topics::{Published, SubscribeError};

pub(crate) use self::burst::{BatchSpan, Burst, BurstFilter};
pub(crate) use self::delivery::Delivery;
pub(crate) use self::order::{Due, next_in_order};
pub(crate) use self::request::{Answer, divide_method, outcome, question};
pub(crate) use self::shared_cursor::SharedCursor;

/// Publishes messages by topic, and subscribes to topics.
///
/// The contract, which [`contract`] checks for any implementation:
///
/// - All subscribers of a topic see its messages in one order, and no message twice; a subscription
///   that recovers messages of a history sees those first.
/// - A subscription receives the messages published after [`subscribe`](Self::subscribe) has
///   returned, and no message after [`unsubscribe`](Self::unsubscribe) has returned.
/// - [`publish`](Self::publish) never waits. A subscriber that falls out of the window loses the
///   oldest unread messages and is told exactly how many.
/// - A topic without subscribers leaves nothing behind, but for the history of a kind that keeps
///   one.
pub trait MessageBus: Send + Sync + 'static {
    /// Subscribes to the messages published on the topic from now on.
    ///
    /// # Errors
    ///
    /// When the topic is new and the bus already has as many topics as it allows.
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError>;

    /// Publishes messages to the topic's subscribers, and returns the number of subscribers.
    fn publish(&self, topic: &Topic, batch: Batch) -> usize;

    /// Ends the subscription, as a drop does.
    fn unsubscribe(&self, _subscription: Subscription) {}

    /// Makes a publisher to this topic, which can wait for room: see [`Publisher::offer`].
    fn publisher(&self, topic: &Topic) -> Publisher;

    /// Reads from the history of a topic; by default there is none. A page has at most
    /// [`history_read_max`](crate::limits::HistoryLimits::history_read_max) messages.
    ///
    /// # Errors
    ///
    /// When the topic has no history, or another one than the reader wants.
    fn history(&self, topic: &Topic, reading: &Reading) -> Result<Page, HistoryError> {
        let _ = (topic, reading);
        Err(HistoryError::Unrecorded)
    }

    /// The position of the history of a topic; `None`, the default, without a history.
    fn position(&self, topic: &Topic) -> Option<Position> {
        let _ = topic;
        None
    }
}
