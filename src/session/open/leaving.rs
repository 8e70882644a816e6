//! How an open session leaves an application that drains.
//!
//! ```text
//!   Arriving ---------> Others ----------> Turn -----------> Ready
//!   hand over what      all clients of     the service has   leave at the
//!   has arrived         the service have   dealt with it     own moment
//!                       done so
//! ```
//!
//! The order ensures that a message which one client had sent by then reaches the other clients
//! before any of them is closed.

use std::task::{Context, Poll};

use super::Open;
use crate::app::{App, Leave};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::connection_io::ConnectionIo;
use crate::session::membership::Membership;
use crate::session::memberships::Memberships;
use crate::session::socket::Socket;

/// A session that is to leave, with its schedule.
#[derive(Debug)]
pub(super) struct Leaving {
    leave: Leave,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Arriving,
    Others,
    Ready,
    Turn,
}

impl Leaving {
    pub(super) fn new(leave: Leave) -> Self {
        let step = if planted::is(Bug::DrainLeavesUnread) {
            Step::Ready
        } else {
            Step::Arriving
        };
        Self { leave, step }
    }

    /// Enters a step; a session that becomes ready after its scheduled time is given another one.
    fn enter<R: Runtime>(&mut self, step: Step, app: &App<R>, now: Instant) {
        self.step = step;
        if step == Step::Ready && now > self.leave.at {
            self.leave.at = app.leave_later(now);
        }
    }

    /// The next deadline of the present step.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let Leave {
            at,
            arrived_at,
            arrivals_until,
        } = self.leave;
        match self.step {
            Step::Arriving if now < arrived_at => arrived_at,
            Step::Ready if now < at => at,
            Step::Arriving | Step::Others | Step::Ready | Step::Turn => arrivals_until,
        }
    }
}

impl<R: Runtime> Open<R> {
    /// Returns the cause to close once the session is to leave; otherwise the task is woken when
    /// this may have changed.
    pub(super) fn poll_leave<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &ConnectionIo<S>,
        now: Instant,
    ) -> Option<Cause> {
        let mut leaving = self.leaving.take()?;
        while let Some(next) = self.next_step(cx, io, &leaving, now) {
            leaving.enter(next, self.app(), now);
        }
        let is_late = now >= leaving.leave.arrivals_until;
        if leaving.step != Step::Ready && is_late {
            leaving.enter(Step::Ready, self.app(), now);
        }
        let is_time = leaving.step == Step::Ready && now >= leaving.leave.at;
        self.leaving = Some(leaving);
        // Input that has arrived since is handed over as well, until `arrivals_until`.
        let leaves = is_time && (is_late || self.has_arrived(io));
        leaves.then_some(Cause::Drained)
    }

    /// The step after the present one, if the present one is done for all rooms of the client.
    fn next_step<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &ConnectionIo<S>,
        leaving: &Leaving,
        now: Instant,
    ) -> Option<Step> {
        let step = leaving.step;
        let has_published = |member: &Membership<R>| member.publisher.has_published();
        let has_published = self.members().iter().any(has_published);
        let is_on_the_way = has_published && now < leaving.leave.arrived_at;
        let has_arrived = step == Step::Arriving && !is_on_the_way && self.has_arrived(io);
        let members = self.members_mut();
        match step {
            Step::Arriving if !has_arrived => None,
            Step::Arriving => {
                members.iter_mut().for_each(|member| member.lease.arrived());
                let overtakes = planted::is(Bug::DrainOvertakesService);
                Some(if overtakes { Step::Ready } else { Step::Others })
            }
            Step::Others => {
                let all = all_ready(members, |member| member.lease.poll_all_arrived(cx));
                all.then(|| {
                    members.iter_mut().for_each(adopt);
                    Step::Turn
                })
            }
            Step::Turn => {
                let all = all_ready(members, |member| member.publisher.poll_processed(cx));
                all.then_some(Step::Ready)
            }
            Step::Ready => None,
        }
    }

    /// Whether all input that has arrived from the client is handed over.
    fn has_arrived<S: Socket + Unpin>(&self, io: &ConnectionIo<S>) -> bool {
        let is_held = self.has_pending() || self.paused.is_some() || !self.renewal.is_none();
        !is_held && io.is_read_out()
    }
}

/// Polls each membership, and returns whether all are ready; the task is woken for the others.
fn all_ready<R: Runtime>(
    members: &mut Memberships<R>,
    mut poll: impl FnMut(&mut Membership<R>) -> Poll<()>,
) -> bool {
    let ready = members.iter_mut().filter_map(|member| match poll(member) {
        Poll::Ready(()) => Some(()),
        Poll::Pending => None,
    });
    ready.count() == members.len()
}

/// Counts what the service has received so far as the client's, so that its turn is awaited.
fn adopt<R: Runtime>(member: &mut Membership<R>) {
    // A relay has passed the messages on, and gives no answers.
    if member.rules.relay.is_none() {
        member.publisher.adopt();
    }
}
