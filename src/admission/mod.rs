//! Admission: who may join, how many, how fast, and who goes first when there are too many.

pub mod authorize;
pub(crate) mod backlog;
pub(crate) mod bucket;
pub(crate) mod pacing;
pub(crate) mod permits;
