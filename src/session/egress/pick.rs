//! The pending messages that a read takes, and their reading.

use std::task::{Context, Poll, ready};

use smallvec::SmallVec;

use crate::bus::{Batch, Subscription};
use crate::limits::SlowConsumer;
use crate::planted::{self, Bug};

/// Batches that are read under one lock.
pub(super) type Batches = SmallVec<[Batch; 4]>;

/// The pending messages that a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// All messages that fit.
    All,
    /// The messages of the next batch.
    Batch,
    /// The messages before this offset that fit.
    Before(u64),
    /// The newest message.
    Newest,
}

impl Pick {
    /// The reason why the other messages are missing.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::All | Self::Batch | Self::Before(_) => "lagged",
            Self::Newest => "superseded",
        }
    }
}

impl From<SlowConsumer> for Pick {
    fn from(policy: SlowConsumer) -> Self {
        match policy {
            SlowConsumer::Close | SlowConsumer::Recover | SlowConsumer::Skip => Self::All,
            SlowConsumer::Latest => Self::Newest,
        }
    }
}

impl Pick {
    /// Reads the messages that it takes, as many as fit into `room` bytes, and returns the number
    /// of those that are missing; parks the task if there is none.
    pub(super) fn poll(
        self,
        cx: &mut Context<'_>,
        subscription: &mut Subscription,
        room: usize,
        batches: &mut Batches,
    ) -> Poll<u64> {
        match self {
            Self::All => {
                let polled = subscription.poll_batches(cx, room, |batch| batches.push(batch));
                planted::swap(Bug::BatchSwapped, batches);
                if planted::is(Bug::DeliveredTwice)
                    && batches.len() > 1
                    && let Some(last) = batches.last().cloned()
                {
                    batches.push(last);
                }
                polled
            }
            Self::Batch => subscription.poll_batch(cx).map(|next| match next {
                Ok(batch) => {
                    batches.push(batch);
                    0
                }
                Err(lost) => lost,
            }),
            Self::Before(offset) => {
                subscription.poll_batches_before(cx, offset, room, |batch| batches.push(batch))
            }
            Self::Newest => {
                let (missed, newest) = ready!(subscription.poll_newest(cx));
                batches.push(newest);
                Poll::Ready(missed)
            }
        }
    }
}
