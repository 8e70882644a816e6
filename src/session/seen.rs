//! A client as others in its room see it, and the joins and leaves that it is told of.

use super::subprotocol::Subprotocol;
use super::wish::Asking;
use crate::app::App;
use crate::bus::{ClientId, MessageBus, Room, SubscribeError, Subscription, Topic};
use crate::client::peer::Peer;
use crate::limits::{PresencePolicy, Tell};
use crate::presence::{Entering, Shown};
use crate::rt::Runtime;

/// A client as others in its room see it, before it joins.
pub(super) struct Seen {
    /// `None` in a kind without presence.
    shown: Option<Shown>,
    /// The subscription to joins and leaves; `None` for a client that is not told of them.
    pub(super) notices: Option<Subscription>,
}

impl Seen {
    /// Subscribes the client to joins and leaves, if it is told of them.
    ///
    /// # Errors
    ///
    /// When the bus refuses the subscription.
    pub(super) fn new<R: Runtime>(
        app: &App<R>,
        room: &Room,
        peer: &Peer,
        asking: Asking,
    ) -> Result<Self, SubscribeError> {
        let policies = app.policies();
        let kind = policies.service(room.kind());
        let presence = kind.map(|kind| &kind.presence);
        let presence = presence.filter(|presence| presence.is_kept());
        let is_told = presence.is_some_and(|presence| asking.follows(presence));
        let topic = is_told.then(|| Topic::from_presence_to_ws(room));
        let notices = topic.map(|topic| app.bus().subscribe(&topic)).transpose()?;
        Ok(Self {
            shown: presence.map(|kind| Shown::of(&peer.identity, &peer.grant, &kind.claims)),
            notices,
        })
    }

    /// The client with this number as it enters the room.
    pub(super) fn entering(&self, id: ClientId) -> Option<Entering> {
        let shown = self.shown.clone()?;
        let follows = self.notices.is_some();
        Some(Entering { id, shown, follows })
    }
}

impl Asking {
    /// Whether the client is told of joins and leaves in a kind with this presence.
    fn follows(&self, presence: &PresencePolicy) -> bool {
        let is_told = match presence.tell {
            Tell::All => true,
            Tell::Asked => self.join_leave,
            Tell::Off => false,
        };
        is_told && self.subprotocol != Subprotocol::Plain
    }
}
