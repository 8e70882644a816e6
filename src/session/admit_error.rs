//! The reasons why a client is not admitted.

use crate::admission::permits::Full;
use crate::bus::SubscribeError;
use crate::limits::Limits;
use crate::metrics::RefuseReason;
use crate::registry::{JoinError, Refusal, RoomsFull};

/// Why a client was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The service refused the client.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The bus refused a subscription.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The client has received the stream of the room to its end.
    #[error("the stream has ended, and you have all of it")]
    Ended,
    /// The client may not read the history, and wants to.
    #[error("you may not read the history here")]
    HistoryForbidden,
    /// The limit of sessions is reached.
    #[error("all {max} sessions are taken")]
    TooManySessions {
        /// The maximum number of sessions.
        max: usize,
    },
    /// The limit of sessions of the client's address is reached.
    #[error("all {max} sessions of your address are taken")]
    TooManyOfAddress {
        /// The maximum number of sessions.
        max: usize,
    },
    /// The limit of sessions of the client's subject is reached.
    #[error("all your {max} sessions are taken")]
    TooManyOfSubject {
        /// The maximum number of sessions.
        max: usize,
    },
}

impl AdmitError {
    /// The error of a client for which there is no permit.
    pub(super) fn full(full: Full, limits: &Limits) -> Self {
        match full {
            Full::InAll => Self::TooManySessions {
                max: limits.sessions,
            },
            Full::Address => Self::TooManyOfAddress {
                max: limits.sessions_per_address,
            },
            Full::Subject => Self::TooManyOfSubject {
                max: limits.sessions_per_subject,
            },
        }
    }

    /// The reason by which the refusal is counted; `None` for a name of no service and no room, and
    /// for a stream that is over, which are not counted as refusals.
    pub(super) fn reason(&self) -> Option<RefuseReason> {
        match self {
            Self::Ended => None,
            Self::HistoryForbidden => Some(RefuseReason::Forbidden),
            Self::Join(error) => Self::reason_of_join(error),
            Self::Subscribe(_) => Some(RefuseReason::Topics),
            Self::TooManySessions { .. } => Some(RefuseReason::Sessions),
            Self::TooManyOfAddress { .. } => Some(RefuseReason::SessionsPerAddress),
            Self::TooManyOfSubject { .. } => Some(RefuseReason::SessionsPerSubject),
        }
    }

    fn reason_of_join(error: &JoinError) -> Option<RefuseReason> {
        match error {
            JoinError::BadKey(_)
            | JoinError::KeyMissing(_)
            | JoinError::Unknown
            | JoinError::WithoutRooms(_) => None,
            JoinError::Refused(Refusal::Draining) => Some(RefuseReason::Draining),
            JoinError::Refused(Refusal::Failed { .. }) => Some(RefuseReason::Failed),
            JoinError::Refused(Refusal::Full { .. }) => Some(RefuseReason::Clients),
            JoinError::RoomsFull(RoomsFull::InAll { .. }) => Some(RefuseReason::Rooms),
            JoinError::RoomsFull(RoomsFull::OfAddress { .. }) => {
                Some(RefuseReason::RoomsPerAddress)
            }
            JoinError::RoomsFull(RoomsFull::OfSubject { .. }) => {
                Some(RefuseReason::RoomsPerSubject)
            }
        }
    }
}
