//! The rules of wild plans, under which much is lost and nearly everything is delayed.

mod closing;
mod conservation;
mod isolation;
mod lifecycle;
mod liveness;
mod order;
mod protocol;
mod rest;

pub use self::closing::Closing;
pub use self::conservation::Conservation;
pub use self::isolation::Isolation;
pub use self::lifecycle::Lifecycle;
pub use self::liveness::Liveness;
pub use self::order::Order;
pub use self::protocol::Protocol;
pub use self::rest::Rest;

use std::collections::BTreeMap;

use crate::frames::Frames;
use crate::trace::{Entry, Event};

/// The service that crashes when it is told to.
const CRASHES: &str = "script";

/// Every byte that the server has written in this time, by connection.
fn streams(entries: &[Entry]) -> BTreeMap<u32, Frames> {
    let mut streams: BTreeMap<u32, Frames> = BTreeMap::new();
    for entry in entries {
        if let Event::Written { conn, data, .. } = &entry.event {
            streams.entry(*conn).or_default().push(data);
        }
    }
    streams
}
