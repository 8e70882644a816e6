//! Reference models and the runs that hold the product against them.
//!
//! Each run takes operations, either drawn by proptest or read from a fuzzer's bytes, applies them
//! to the product and to a plain sequential model, and panics where the two differ.

pub(crate) mod bus;
pub(crate) mod bytes;
pub(crate) mod crowd;
pub(crate) mod executor;
pub(crate) mod history;
pub(crate) mod lobby;
pub(crate) mod names;
pub(crate) mod peer;
pub(crate) mod registry;
pub(crate) mod session;
pub(crate) mod streams;
pub(crate) mod wire;
