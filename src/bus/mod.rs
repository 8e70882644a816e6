//! The message bus: topics are the only contract between clients and services.

mod topic;

mod message;

mod burst;

mod counts;

mod train;
mod turns;

mod ring;

mod ahead;

mod log;

mod lazy;

mod subscription;

mod cell;

mod memory;

mod batch;

mod group;

mod tap;

pub mod contract;

#[cfg(all(test, feature = "loom"))]
mod models;

pub use self::batch::{Batch, Messages};
pub use self::counts::TopicCounts;
pub use self::memory::{BusCounts, InMemoryMessageBus, TopicStatus};
pub use self::message::{Generation, Message, Origin, Sender};
pub use self::subscription::{Offered, Publisher, Received, Subscription};
pub use self::tap::{Tap, Tapped};
pub use self::topic::{ClientId, NameError, ServiceName, Topic};

pub(crate) use self::ahead::{Ahead, Refill};
pub(crate) use self::burst::{Burst, Mark, Terms};
pub(crate) use self::group::Group;
pub(crate) use self::ring::Parcel;
pub(crate) use self::train::Train;

/// Publish and subscribe by topic.
///
/// The contract, which [`contract`] checks of any implementation:
///
/// - All subscribers of a topic see its messages in one order, none twice.
/// - A subscription receives what is published after [`subscribe`](Self::subscribe) has returned
///   and nothing after [`unsubscribe`](Self::unsubscribe) has.
/// - [`publish`](Self::publish) never waits. A subscriber that falls out of the window loses the
///   oldest unread messages and is told exactly how many.
/// - A topic without subscribers leaves nothing behind.
pub trait MessageBus: Send + Sync + 'static {
    /// Subscribes to what is published on the topic from now on.
    ///
    /// # Errors
    ///
    /// When the topic is a new one and there are as many topics as the bus allows.
    fn subscribe(&self, topic: &Topic) -> Result<Subscription, SubscribeError>;

    /// Publishes to those subscribed to the topic, and returns how many that are.
    fn publish(&self, topic: &Topic, message: Message) -> usize;

    /// Publishes on the topic of this client alone, and returns how many are subscribed to it.
    ///
    /// The same as [`publish`](Self::publish), for a bus that knows a shorter way.
    fn reply(&self, to: &Sender, message: Message) -> usize {
        self.publish(to.topic(), message)
    }

    /// Publishes these, the oldest first, on the topic of this client alone.
    ///
    /// Returns how many are subscribed to it; 0 for no messages. The same as one
    /// [`reply`](Self::reply) after the other, for a bus that knows a shorter way.
    fn reply_batch(&self, to: &Sender, mut batch: Batch) -> usize {
        let mut subscribers = 0;
        while let Some(message) = batch.pop() {
            subscribers = self.reply(to, message);
        }
        subscribers
    }

    /// Ends the subscription, as dropping it does.
    fn unsubscribe(&self, _subscription: Subscription) {}

    /// A publisher that waits for room, for those who can: see [`Publisher::offer`].
    fn publisher(&self, topic: &Topic) -> Publisher;
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bus has as many topics as it may.
    #[error("the bus already has {max} topics, the most it may; raise `Limits::topics`")]
    TooManyTopics {
        /// The limit.
        max: usize,
    },
}
