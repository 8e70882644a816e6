//! Who is at the other end of a connection, as far as the limits ask.

use std::net::IpAddr;
use std::sync::Arc;

use crate::client::identity::Identity;

/// A client before it is admitted: where it comes from and who it says, and has proved, it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, that of the client and not of a proxy; `None` where there is none, such as on a
    /// Unix socket, or where the embedding program does not tell.
    pub address: Option<IpAddr>,
    /// Who it is, by what it has shown.
    pub identity: Identity,
}

impl Peer {
    /// Whom its credentials name; `None` for an anonymous one.
    pub fn subject(&self) -> Option<&Arc<str>> {
        self.identity.subject.as_ref()
    }
}
