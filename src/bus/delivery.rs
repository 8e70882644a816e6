//! The receivers of a batch among the readers of its topic, and its place in what they are told.

use std::sync::Arc;

use super::request::Question;
use super::topic::ClientId;
use crate::wire::CloseFrame;

/// How a service addressed a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// To one client, after the messages to all clients before this offset.
    After(u64),
    /// To one client, like [`After`](Self::After): no message, but the end of its session.
    Close(u64, Arc<CloseFrame>),
    /// To every reader of the topic: the data of the end of the topic, after which nothing comes.
    End,
    /// To every reader of the topic but this client.
    Except(ClientId),
    /// To every reader of the topic.
    #[default]
    Everyone,
    /// To the service, which is to answer the message.
    Request(Arc<Question>),
}

impl Delivery {
    /// The offset of the messages to all clients before which the batch is not due.
    pub(crate) fn after(&self) -> u64 {
        match self {
            Self::After(offset) | Self::Close(offset, _) => *offset,
            Self::End | Self::Except(_) | Self::Everyone | Self::Request(_) => 0,
        }
    }

    /// Whether the batch is more than messages for all readers: it is not written as it is.
    pub(super) fn is_special(&self) -> bool {
        matches!(self, Self::End | Self::Except(_))
    }

    /// The receivers of a batch that a client recovers: it gets also the messages that others were
    /// to get without it.
    pub(super) fn recovered(&self) -> Self {
        match self {
            Self::End => Self::End,
            Self::After(_)
            | Self::Close(..)
            | Self::Except(_)
            | Self::Everyone
            | Self::Request(_) => Self::Everyone,
        }
    }
}
