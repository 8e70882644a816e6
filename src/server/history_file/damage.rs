//! The reasons why the content of a history file is not accepted.

use std::time::Duration;

/// The reason why the content of a history file is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// The file does not begin as a history file does.
    #[error("it is no history file")]
    Foreign,
    /// The layout is that of another version of this program.
    #[error("it has the layout {0}, and this server reads another one")]
    Version(u32),
    /// The file ends too early.
    #[error("it ends too early")]
    Cut,
    /// A checksum is not that of the bytes that it stands for.
    #[error("a checksum is wrong")]
    Checksum,
    /// A part of the content makes no sense, although the checksum is right.
    #[error("it has a wrong {0}")]
    Content(&'static str),
    /// The file goes on behind its end.
    #[error("it goes on behind its end")]
    Rest,
    /// The file was written so long ago that all positions are forgotten.
    #[error("it is {age:?} old, and positions are forgotten after {ttl:?}")]
    Old {
        /// The time since the file was written.
        age: Duration,
        /// The time after which positions are forgotten.
        ttl: Duration,
    },
    /// The file is larger than it may be.
    #[error("it is larger than {0} bytes: raise `history_file_bytes`")]
    Large(u64),
}
