//! How an open session takes a fresh token of its client.

use std::task::{Context, Poll, ready};

use super::Open;
use crate::admission::authorize::{Admitted, Denied};
use crate::bus::Room;
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::expiry::Expiry;
use crate::session::memberships::Served;
use crate::session::renewal::Decided;
use crate::session::subprotocol;
use crate::wire::Frame;

impl<R: Runtime> Open<R> {
    /// Takes the decisions about a fresh token once they are made; the client is not read
    /// meanwhile.
    pub(super) fn poll_renewal(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Cause>> {
        // A client receives one notice for each token: the previous notice is sent first.
        if self.notice.is_some() && !self.renewal.is_none() {
            return Poll::Pending;
        }
        let Some(decided) = ready!(self.renewal.poll(cx, now)) else {
            return Poll::Ready(None);
        };
        let notice = match self.renew(decided, now) {
            Ok(notice) => notice,
            Err(cause) => return Poll::Ready(Some(cause)),
        };
        self.notice = Some(Box::new(Frame::text(notice)));
        // The next poll sends the notice.
        cx.waker().wake_by_ref();
        Poll::Ready(None)
    }

    /// Takes over the decisions for all rooms, or none of them; returns the notice for the client.
    /// The client leaves the rooms in which the token is not good.
    ///
    /// # Errors
    ///
    /// The cause to close a client that may stay in no room.
    fn renew(&mut self, decided: Vec<Decided>, now: Instant) -> Result<&'static str, Cause> {
        let is_open = |(_, decision): &Decided| matches!(decision, Err(Denied::Unavailable { .. }));
        if decided.iter().any(is_open) {
            return Ok(subprotocol::UNDECIDED);
        }
        for (room, decision) in decided {
            match decision {
                Ok(admitted) => self.renew_in(&room, admitted, now)?,
                Err(
                    Denied::Expired
                    | Denied::Forbidden
                    | Denied::Unauthorized
                    | Denied::Unavailable { .. },
                ) => {
                    let place = self.members().place(&room);
                    let closes = place.and_then(|place| self.end(place, Cause::Denied));
                    closes.map_or(Ok(()), Err)?;
                }
            }
        }
        Ok(subprotocol::RENEWED)
    }

    fn renew_in(&mut self, room: &Room, admitted: Admitted, now: Instant) -> Result<(), Cause> {
        let Admitted { identity, grant } = admitted;
        let wall = self.app().rt().wall();
        self.expiry = Expiry::new(&identity, wall, now);
        self.is_timed_anew = true;
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        // A token for another subject is refused: the limits of this session are counted for the
        // subject that it was admitted with.
        if identity.subject != memberships.oldest().sender.identity().subject {
            return Err(Cause::Denied);
        }
        // The client may have left the room meanwhile.
        if let Some(place) = memberships.place(room) {
            let app = &connection.app;
            memberships.at(place).renew(app, identity, &grant);
        }
        Ok(())
    }
}
