//! Admission: the right to join, bounds of numbers and rates, and the choice of sessions to close.

pub mod authorize;
pub(crate) mod backlog;
pub(crate) mod bucket;
pub(crate) mod directory;
pub(crate) mod pacing;
pub(crate) mod permits;
