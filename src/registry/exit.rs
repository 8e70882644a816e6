//! The exits of instances, and the guard that reports an exit in any case.

use std::any::Any;
use std::fmt;
use std::time::SystemTime;

use futures::future::Aborted;

use super::entry::Entry;
use super::lifecycle::ExitKind;
use crate::bus::{Generation, SubscribeError, Subscription};
use crate::planted::{self, Bug};
use crate::rt::Runtime;
use crate::service::Stop;
use crate::sync::Arc;

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
    pub(super) fn new(generation: Generation, exit: &Exit, at: SystemTime) -> Self {
        let mut reason = exit.to_string();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self {
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

/// Reports the exit of an instance exactly once, after its inbox is gone: with the given exit, or
/// as aborted if the instance's task is dropped.
pub(crate) struct ExitGuard<R: Runtime> {
    entry: Arc<Entry<R>>,
    generation: Generation,
    /// `None` once the instance has taken it.
    inbox: Option<Result<Subscription, SubscribeError>>,
    reported: bool,
}

impl<R: Runtime> ExitGuard<R> {
    pub(crate) fn new(
        entry: Arc<Entry<R>>,
        generation: Generation,
        inbox: Result<Subscription, SubscribeError>,
    ) -> Self {
        Self {
            entry,
            generation,
            inbox: Some(inbox),
            reported: false,
        }
    }

    /// Runs the instance; to be called once.
    pub(crate) async fn run(&mut self, stop: Stop) -> Run {
        match self.inbox.take() {
            Some(Ok(inbox)) => self.entry.run(self.generation, inbox, stop).await,
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    pub(crate) fn exited(&mut self, exit: &Exit) {
        self.reported = true;
        drop(self.inbox.take());
        Entry::exited(&self.entry, self.generation, exit);
    }
}

impl<R: Runtime> Drop for ExitGuard<R> {
    fn drop(&mut self) {
        if !self.reported && !planted::is(Bug::DroppedNotReported) {
            self.exited(&Exit::Aborted);
        }
    }
}
