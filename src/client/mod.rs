//! Clients before their sessions: their addresses, their identities, the pages they come from.

pub mod address;
pub(crate) mod grant;
pub mod host;
pub mod identity;
pub mod origin;
pub(crate) mod peer;
