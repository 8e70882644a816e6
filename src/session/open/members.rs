//! The memberships of an open session: how each is served, and how one of several ends.

use std::cmp::Reverse;
use std::sync::Arc;
use std::task::Context;

use super::Open;
use super::leaving::Leaving;
use crate::app::App;
use crate::bus::Room;
use crate::client::peer::Peer;
use crate::fan_out::Sink;
use crate::limits::{Limits, SlowConsumer};
use crate::metrics::CloseReason;
use crate::planted::{self, Bug};
use crate::registry::Status;
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::membership::{Begun, Entrant, Membership};
use crate::session::membership_error::MembershipError;
use crate::session::memberships::{Memberships, Served};
use crate::session::outbox::Outbox;
use crate::session::wish::{Asking, Wish};

impl<R: Runtime> Open<R> {
    pub(super) fn served(&self) -> &Served<R> {
        self.served
            .as_ref()
            .expect("an open session serves its client")
    }

    pub(super) fn served_mut(&mut self) -> &mut Served<R> {
        self.served
            .as_mut()
            .expect("an open session serves its client")
    }

    pub(in crate::session) fn app(&self) -> &App<R> {
        &self.served().connection.app
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.served().connection.limits
    }

    pub(super) fn members(&self) -> &Memberships<R> {
        &self.served().memberships
    }

    pub(super) fn members_mut(&mut self) -> &mut Memberships<R> {
        &mut self.served_mut().memberships
    }

    /// The membership for messages and requests that name no room.
    #[inline]
    pub(super) fn member(&self) -> &Membership<R> {
        self.members().oldest()
    }

    /// The membership for messages and requests that name no room.
    #[inline]
    pub(super) fn member_mut(&mut self) -> &mut Membership<R> {
        self.members_mut().oldest_mut()
    }

    /// Brings the client into one more room over its connection; the session is to be polled
    /// afterwards.
    ///
    /// # Errors
    ///
    /// When the client is in the room already or in as many as it may be in, and the errors of an
    /// admission.
    pub(in crate::session) fn join(
        &mut self,
        room: &Room,
        peer: &Peer,
        wish: Wish,
    ) -> Result<(), MembershipError> {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        let max = connection.limits.memberships.get();
        if memberships.place(room).is_some() {
            return Err(MembershipError::AlreadyThere);
        }
        if memberships.len() >= max {
            return Err(MembershipError::TooMany { max });
        }
        let policies = connection.app.policies();
        let asking = Asking {
            subprotocol: memberships.oldest().egress.encoder.subprotocol(),
            wish,
            join_leave: false,
        };
        let client = memberships.oldest().egress.tap_reporter.client();
        let entrant = Entrant {
            client,
            peer,
            asking,
        };
        let Begun {
            mut membership,
            joined,
            recovery,
        } = Membership::begin(connection, &policies, room, entrant)?;
        let egress = &mut membership.egress;
        egress.encoder.greet(joined, recovery);
        let oldest = &memberships.oldest().egress;
        egress.compression.clone_from(&oldest.compression);
        memberships.add(membership);
        self.is_timed_anew = true;
        Ok(())
    }

    /// Takes the client out of a room, unless it is in no other; messages of the room that are in
    /// the outbox are still sent, and no others.
    pub(in crate::session) fn leave(&mut self, room: &Room) -> bool {
        let place = self.members().place(room);
        place.is_some_and(|place| self.take_out(place, CloseReason::PeerClosed))
    }

    /// Ends the membership at a place; returns the cause to close the session if it has no other.
    pub(super) fn end(&mut self, place: usize, cause: Cause) -> Option<Cause> {
        let is_out = self.take_out(place, cause.reason());
        (!is_out).then_some(cause)
    }

    /// Takes out the membership at a place, unless it is the only one.
    fn take_out(&mut self, place: usize, reason: CloseReason) -> bool {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        let Some(mut membership) = memberships.remove(place) else {
            return false;
        };
        membership.abandon(&connection.app);
        membership.part(reason, None).tell_unread();
        true
    }

    /// Lends the subscription to a fan-out, if the session has nothing else to write for a while.
    pub(in crate::session) fn join_fan_out(&mut self, sink: Arc<dyn Sink>) {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        let fan_outs = connection.app.fan_outs();
        memberships.oldest_mut().egress.join_fan_out(fan_outs, sink);
    }

    /// Whether the session qualifies for a fan-out.
    #[inline]
    pub(in crate::session) fn may_join(&self) -> bool {
        self.member().egress.broadcast.may_join()
    }

    /// Takes the subscription back from the fan-out.
    pub(in crate::session) fn take_back(&mut self) {
        if let Some(Served { memberships, .. }) = &mut self.served {
            memberships.oldest_mut().egress.broadcast.take_back();
        }
    }

    /// Forgets which task is parked, because another task polls the session from now on.
    pub(in crate::session) fn moved(&mut self) {
        if let Some(Served { memberships, .. }) = &mut self.served {
            for member in memberships.iter_mut() {
                member.egress.moved();
                member.lease.moved();
            }
        }
    }

    /// The bytes at hand for the services, and, where the outbox is not empty, those that wait for
    /// this client alone.
    pub(super) fn held(&mut self, cx: &mut Context<'_>, is_outbox_empty: bool) -> usize {
        // With an empty outbox no message to this client is waiting.
        if is_outbox_empty && !self.has_pending() {
            return 0;
        }
        let of = |member: &mut Membership<R>| {
            let pending = member.pending_inbound.as_ref();
            let pending = pending.map_or(0, |pending| pending.batch.bytes());
            match is_outbox_empty {
                true => pending,
                false => pending + member.egress.watch(cx),
            }
        };
        self.members_mut().iter_mut().map(of).sum()
    }

    /// Whether messages of the client wait for a service.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        let members = self.members();
        !members.all(|member| member.pending_inbound.is_none())
    }

    /// Since when messages of the client wait for a service, those that wait for the longest time.
    pub(super) fn pending_since(&self) -> Option<Instant> {
        let pending = self.members().iter();
        let pending = pending.filter_map(|member| member.pending_inbound.as_ref());
        pending.map(|pending| pending.since).min()
    }

    /// The next time at which a request to a service has waited long enough.
    #[inline]
    pub(super) fn answered_by(&self) -> Option<Instant> {
        if self
            .members()
            .all(|member| member.egress.encoder.answered_by().is_none())
        {
            return None;
        }
        let members = self.members().iter();
        members
            .filter_map(|member| member.egress.encoder.answered_by())
            .min()
    }

    /// Counts the messages at hand as lost: the services will not receive them.
    pub(in crate::session) fn abandon(&mut self) {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        for member in memberships.iter_mut() {
            member.abandon(&connection.app);
        }
    }

    /// Whether the status of each service is unchanged, and the application does not drain.
    #[inline]
    pub(super) fn is_status_quiet(&self) -> bool {
        self.leaving.is_none() && self.members().all(|member| member.lease.is_quiet())
    }

    /// Takes in changes of the services' status; returns a cause if the client is to leave.
    pub(super) fn poll_status(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        let mut place = 0;
        while place < self.members().len() {
            let Served {
                connection,
                memberships,
            } = self.served_mut();
            let app = &connection.app;
            match memberships.at(place).poll_status(cx, app) {
                Some(Status::Failed) => {
                    if let Some(cause) = self.end(place, Cause::Failed) {
                        return Some(cause);
                    }
                    continue;
                }
                Some(Status::Draining(_)) if self.leaving.is_none() => {
                    self.leaving = Some(Box::new(Leaving::new(self.app().leave())));
                }
                Some(Status::Draining(_) | Status::Running(_) | Status::Waiting) | None => {}
            }
            place += 1;
        }
        None
    }

    /// Ends the memberships whose service has accepted nothing for too long; returns the cause to
    /// close the session if the last of them does.
    pub(super) fn end_stalled(&mut self, now: Instant) -> Option<Cause> {
        let timeout = self.limits().accept_timeout;
        let is_late = |member: &Membership<R>| {
            let pending = member.pending_inbound.as_ref();
            pending.is_some_and(|pending| now.saturating_since(pending.since) >= timeout)
        };
        loop {
            let place = self.members().iter().position(is_late)?;
            if let Some(cause) = self.end(place, Cause::Stalled) {
                return Some(cause);
            }
        }
    }

    /// Whether no membership has anything to send.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.members().all(|member| member.egress.is_at_rest())
    }

    /// Moves pending messages of all rooms into the outbox; returns the cause to close a client
    /// whose last membership ends.
    pub(super) fn pull(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Option<Cause> {
        let ends = if self.members().len() == 1 {
            let cause = self.pull_from(0, cx, outbox);
            cause.and_then(|cause| self.end(0, cause))
        } else {
            self.pull_in_turn(cx, outbox)
        };
        if outbox.has_messages() {
            self.age.active(now);
        }
        ends
    }

    /// Moves pending messages of one room into the outbox; returns the cause to end the membership.
    #[inline]
    fn pull_from(
        &mut self,
        place: usize,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Option<Cause> {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        let egress = &mut memberships.at(place).egress;
        let lost = egress.pull(cx, outbox, connection.app.metrics());
        too_slow(egress.slow_consumer, lost).or_else(|| egress.take_close())
    }

    #[inline(never)]
    fn pull_in_turn(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Option<Cause> {
        let mut ends = Vec::new();
        for place in self.members_mut().next_turn() {
            let cause = self.pull_from(place, cx, outbox);
            ends.extend(cause.map(|cause| (place, cause)));
        }
        // From the last place on: those before it stay where they are.
        ends.sort_unstable_by_key(|(place, _)| Reverse(*place));
        let ends = ends.into_iter();
        ends.filter_map(|(place, cause)| self.end(place, cause))
            .last()
    }
}

/// The cause to end a membership that lost messages, if its policy says so.
fn too_slow(policy: SlowConsumer, lost: u64) -> Option<Cause> {
    match policy {
        SlowConsumer::Close if planted::is(Bug::SlowConsumerKept) => None,
        SlowConsumer::Close if lost > 0 => Some(Cause::SlowConsumer(lost)),
        SlowConsumer::Close | SlowConsumer::Latest | SlowConsumer::Recover | SlowConsumer::Skip => {
            None
        }
    }
}
