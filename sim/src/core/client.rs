//! A client of a run of the core, from outside.

use std::time::Duration;

use busline::bus::{ClientId, Room};
use busline::session::Cause;

use super::executor::Number;
use super::peer::Peer;
use crate::shared::Shared;
use crate::wild::Offence;

/// A client that was admitted.
pub(crate) struct Client {
    /// The service, or the kind of its room.
    pub(crate) service: &'static str,
    pub(crate) room: Room,
    pub(crate) id: ClientId,
    pub(crate) peer: Peer,
    pub(crate) task: Number,
    /// The oldest generation that serves it.
    pub(crate) since: u64,
    /// The cause for which its session ended; that of one that was dropped is not known.
    pub(crate) ended: Shared<Option<Option<Cause>>>,
    pub(crate) conduct: Conduct,
    /// Texts that it had sent when the core was told to stop.
    pub(crate) sent_before_drain: usize,
    /// Whether the rules have seen its end.
    pub(super) is_judged: bool,
}

/// What a client has done that may cost it something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conduct {
    /// It broke off: it ended its side, or reset the connection.
    pub(crate) broke: bool,
    /// It says nothing any more, since this time.
    pub(crate) deaf_since: Option<Duration>,
    pub(crate) left: bool,
    pub(crate) offended: Option<Offence>,
    /// It did not always read.
    pub(crate) stopped: bool,
}

impl Client {
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.with(|ended| ended.is_some())
    }

    /// Whether it is to be served: connected, talking, reading and not told to go.
    pub(crate) fn is_sound(&self) -> bool {
        !self.is_ended() && self.peer.is_talking() && self.peer.is_reading()
    }
}
