//! The decision about a fresh token that a client has sent: at most one at a time.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::admission::Membership;
use crate::admission::authorize::{Ask, Denied};
use crate::client::identity::{Identity, Token};
use crate::limits::TOKEN_BYTES_MAX;
use crate::rt::{Instant, Runtime};

/// A decision that is asked for, with its deadline, or none.
#[derive(Default)]
pub(super) struct Renewal(Option<Box<Asked>>);

/// What was asked, and until when an answer is waited for; boxed because it is seldom there.
type Asked = (BoxFuture<'static, Result<Identity, Denied>>, Instant);

impl Renewal {
    /// Asks whether the client of this session may stay, by what it shows now.
    pub(super) fn ask<R: Runtime>(member: &Membership<R>, token: Token, now: Instant) -> Self {
        let deadline = now + member.limits.accept_timeout;
        if token.reveal().len() > TOKEN_BYTES_MAX {
            return Self(Some(Box::new((
                ready(Err(Denied::Unauthorized)).boxed(),
                deadline,
            ))));
        }
        let app = member.app();
        let ask = Ask {
            service: member.service().clone(),
            token: Some(token),
            wall: app.rt().wall(),
        };
        Self(Some(Box::new((
            app.policies().authorize.authorize(ask),
            deadline,
        ))))
    }

    /// Whether none is asked for.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Until when it is waited for; `None` if none is asked for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|asked| asked.1)
    }

    /// The decision, once; `None` if none is asked for. One that is late is none.
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Result<Identity, Denied>>> {
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
    ) -> Poll<Option<Result<Identity, Denied>>> {
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
