//! The maker of a history, whose own oldest messages make room first.

use std::net::IpAddr;
use std::sync::Arc;

/// The client that made a history, by its first join or publish in a room; the default is the
/// program itself.
///
/// Makers with a subject are told apart by it, others by their address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Maker {
    /// The address, IPv6 by its /64: see [`group`](crate::client::address::group).
    pub address: Option<IpAddr>,
    /// The subject of the credentials.
    pub subject: Option<Arc<str>>,
}

impl Maker {
    /// Returns the maker without the parts that do not tell it apart.
    pub(super) fn key(&self) -> Self {
        let subject = self.subject.clone();
        let address = self.address.filter(|_| subject.is_none());
        Self { address, subject }
    }
}
