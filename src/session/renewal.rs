//! The pending decision about a fresh token of a client: at most one at a time.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::admission::Membership;
use crate::admission::authorize::{Admitted, Denied};
use crate::client::identity::Token;
use crate::limits::TOKEN_BYTES_MAX;
use crate::rt::{Instant, Runtime};

/// A pending decision with its deadline, or none.
#[derive(Default)]
pub(super) struct Renewal(Option<Box<Asked>>);

/// A pending decision and its deadline; boxed because few sessions have one.
type Asked = (BoxFuture<'static, Result<Admitted, Denied>>, Instant);

impl Renewal {
    /// Asks the policy whether the client may stay with the token it shows now.
    pub(super) fn ask<R: Runtime>(member: &Membership<R>, token: Token, now: Instant) -> Self {
        let deadline = now + member.limits.accept_timeout;
        if token.reveal().len() > TOKEN_BYTES_MAX {
            return Self(Some(Box::new((
                ready(Err(Denied::Unauthorized)).boxed(),
                deadline,
            ))));
        }
        let app = member.app();
        let decision = app.admit(member.room(), Some(token));
        Self(Some(Box::new((decision, deadline))))
    }

    /// Whether no decision is pending.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The deadline of the decision; `None` if none is pending.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|asked| asked.1)
    }

    /// Returns the decision, once; `None` if none is pending. A decision that misses its deadline
    /// counts as [`Denied::UNDECIDED`].
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<Admitted, Denied>>> {
        match self.0 {
            Some(_) => self.poll_asked(cx, now),
            None => Poll::Ready(None),
        }
    }

    #[cold]
    fn poll_asked(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<Admitted, Denied>>> {
        let Some((decision, deadline)) = self.0.as_deref_mut() else {
            return Poll::Ready(None);
        };
        let decided = match decision.poll_unpin(cx) {
            Poll::Pending if now < *deadline => return Poll::Pending,
            Poll::Pending => Err(Denied::UNDECIDED),
            Poll::Ready(decided) => decided,
        };
        self.0 = None;
        Poll::Ready(Some(decided))
    }
}
