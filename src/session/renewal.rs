//! The pending decisions about a fresh token of a client, one for each of its rooms: about at most
//! one token at a time.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};

use super::memberships::Served;
use crate::admission::authorize::{Admitted, Denied};
use crate::bus::Room;
use crate::client::identity::Token;
use crate::limits::TOKEN_BYTES_MAX;
use crate::rt::{Instant, Runtime};

/// The decision whether a client may stay in a room.
pub(super) type Decided = (Room, Result<Admitted, Denied>);

/// Pending decisions with their deadline, or none.
#[derive(Default)]
pub(super) struct Renewal(Option<Box<Asked>>);

/// Pending decisions; boxed because few sessions have any.
struct Asked {
    decisions: BoxFuture<'static, Vec<Decided>>,
    rooms: Vec<Room>,
    deadline: Instant,
}

impl Renewal {
    /// Asks the policy whether the client may stay in its rooms with the token it shows now.
    pub(super) fn ask<R: Runtime>(served: &Served<R>, token: &Token, now: Instant) -> Self {
        let Served {
            connection,
            memberships,
        } = served;
        let rooms: Vec<Room> = memberships
            .iter()
            .map(|member| member.room().clone())
            .collect();
        let decisions = if token.reveal().len() > TOKEN_BYTES_MAX {
            ready(of_all(&rooms, Denied::Unauthorized)).boxed()
        } else {
            let asked = rooms.iter().map(|room| {
                let room = room.clone();
                let decision = connection.app.admit(&room, Some(token.clone()));
                decision.map(|decided| (room, decided))
            });
            join_all(asked).boxed()
        };
        Self(Some(Box::new(Asked {
            decisions,
            rooms,
            deadline: now + connection.limits.accept_timeout,
        })))
    }

    /// Whether no decision is pending.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The deadline of the decisions; `None` if none is pending.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|asked| asked.deadline)
    }

    /// Returns the decisions, once; `None` if none is pending. Decisions that miss their deadline
    /// count as [`Denied::UNDECIDED`].
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Vec<Decided>>> {
        match self.0 {
            Some(_) => self.poll_asked(cx, now),
            None => Poll::Ready(None),
        }
    }

    #[cold]
    fn poll_asked(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Vec<Decided>>> {
        let Some(asked) = self.0.as_deref_mut() else {
            return Poll::Ready(None);
        };
        let decided = match asked.decisions.poll_unpin(cx) {
            Poll::Pending if now < asked.deadline => return Poll::Pending,
            Poll::Pending => of_all(&asked.rooms, Denied::UNDECIDED),
            Poll::Ready(decided) => decided,
        };
        self.0 = None;
        Poll::Ready(Some(decided))
    }
}

/// Makes one refusal the decision for each room.
fn of_all(rooms: &[Room], denied: Denied) -> Vec<Decided> {
    let rooms = rooms.iter().cloned();
    rooms.map(|room| (room, Err(denied))).collect()
}
