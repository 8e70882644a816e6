//! The reasons why a client does not come into one more room over its connection.

use super::admit_error::AdmitError;
use crate::metrics::RefuseReason;

/// Why a client did not come into one more room over its connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The client was not admitted to the room.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// The client is in the room already.
    #[error("you are in this room already")]
    AlreadyThere,
    /// The session closes.
    #[error("the connection closes")]
    Closing,
    /// The client is in as many rooms over its connection as it may be in.
    #[error("a connection is in at most {max} rooms")]
    TooMany {
        /// The maximum number of rooms.
        max: usize,
    },
}

impl MembershipError {
    /// The reason by which the refusal is counted, if it is counted.
    pub(super) fn reason(&self) -> Option<RefuseReason> {
        match self {
            Self::Admit(error) => error.reason(),
            Self::AlreadyThere | Self::Closing => None,
            Self::TooMany { .. } => Some(RefuseReason::Memberships),
        }
    }
}
