//! The exits of instances.

use std::any::Any;
use std::fmt;
use std::time::SystemTime;

use futures::future::Aborted;

use super::lifecycle::ExitKind;
use crate::bus::{Generation, Room};

/// The way in which an instance ended, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Aborted,
    Error(String),
    Panicked(String),
    Returned,
}

/// The record of an instance that ended abnormally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The room or service of the instance.
    pub room: Room,
    /// The generation of the instance.
    pub generation: Generation,
    /// The reason, cut to [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// The date and time of the end.
    pub at: SystemTime,
}

/// The longest reason kept of a crash, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

impl Crash {
    pub(super) fn new(room: &Room, generation: Generation, exit: &Exit, at: SystemTime) -> Self {
        let mut reason = exit.to_string();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self {
            room: room.clone(),
            generation,
            reason,
            at,
        }
    }
}

/// The result of a service's function.
pub(crate) type Run = Result<(), String>;

type Unwound = Box<dyn Any + Send>;

impl Exit {
    pub(crate) fn from_result(result: Result<Result<Run, Unwound>, Aborted>) -> Self {
        match result {
            Ok(Ok(Ok(()))) => Self::Returned,
            Ok(Ok(Err(error))) => Self::Error(error),
            Ok(Err(panic)) => Self::Panicked(panic_text(panic.as_ref())),
            Err(Aborted) => Self::Aborted,
        }
    }

    pub(crate) fn kind(&self) -> ExitKind {
        match self {
            Self::Aborted => ExitKind::Aborted,
            Self::Error(_) | Self::Panicked(_) => ExitKind::Crashed,
            Self::Returned => ExitKind::Returned,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("aborted"),
            Self::Error(error) => write!(f, "returned an error: {error}"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Returned => f.write_str("returned"),
        }
    }
}

/// The text of a panic; a payload of another type cannot be shown.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no text)").to_owned()
}
