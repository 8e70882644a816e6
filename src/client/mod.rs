//! Clients, before any of them is served: where they are, who they are, which page they come from.

pub mod address;
pub mod host;
pub mod identity;
pub mod origin;
pub(crate) mod peer;
