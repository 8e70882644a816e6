//! The other end of a connection, as far as limits ask.

use std::net::IpAddr;
use std::sync::Arc;

use crate::client::grant::Grant;
use crate::client::identity::Identity;

/// A client before its admission: its address and its proven identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client, not of a proxy; `None` without an address, such as on a Unix
    /// socket, or if the embedding program does not provide one.
    pub address: Option<IpAddr>,
    /// The query of the client's request without its token; `None` without a query.
    pub query: Option<Arc<str>>,
    /// The proven identity.
    pub identity: Identity,
    /// The rights of the client in the room that it joins.
    pub grant: Grant,
}

impl Peer {
    /// The subject of the credentials; `None` for an anonymous client.
    pub fn subject(&self) -> Option<&Arc<str>> {
        self.identity.subject.as_ref()
    }
}
