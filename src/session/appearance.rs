//! A client as others in its room see it, and the joins and leaves that it is told of.

use super::subprotocol::Subprotocol;
use super::wish::Asking;
use crate::admission::authorize::Grant;
use crate::app::App;
use crate::bus::{ClientId, MessageBus, Room, SubscribeError, Subscription, Topic};
use crate::client::identity::Identity;
use crate::client::peer::Peer;
use crate::limits::{PresencePolicy, Tell};
use crate::presence::{Entering, Shown};
use crate::rt::Runtime;

/// A client as others in its room see it, before it joins.
pub(super) struct Appearance {
    /// `None` in a kind without presence.
    shown: Option<Shown>,
    /// The subscription to joins and leaves; `None` for a client that is not told of them.
    pub(super) notices: Option<Subscription>,
}

impl Appearance {
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
        // The registry keeps and tells as it was built, whatever the policies say now.
        let presence = app.registry().presence_policy(room.kind().as_str());
        let is_told = presence.is_some_and(|presence| asking.follows(presence));
        let topic = is_told.then(|| Topic::from_presence_to_ws(room));
        let notices = topic.map(|topic| app.bus().subscribe(&topic)).transpose()?;
        Ok(Self {
            shown: presence.map(|_| shown(app, room, &peer.identity, &peer.grant)),
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

/// The facts about a client of this identity and grant that its room shows, as the policies say
/// now.
pub(super) fn shown<R: Runtime>(
    app: &App<R>,
    room: &Room,
    identity: &Identity,
    grant: &Grant,
) -> Shown {
    let policies = app.policies();
    let kind = policies.service(room.kind());
    let claims = kind.map_or(&[][..], |kind| &kind.presence.claims);
    Shown::of(identity, grant, claims)
}
