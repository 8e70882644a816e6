//! The decision whether a client may join, which an embedding program can make.

use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt, ready};

use crate::bus::{Room, ServiceName};
use crate::client::identity::{Identity, Token};

/// Decides which clients may join a service.
///
/// ```
/// use busline::authorize::{Ask, Authorize, Denied};
/// use busline::identity::Identity;
/// use futures::FutureExt;
/// use futures::future::{BoxFuture, ready};
///
/// struct Password;
///
/// impl Authorize for Password {
///     fn authorize(&self, ask: Ask) -> BoxFuture<'static, Result<Identity, Denied>> {
///         let known = ask.token.is_some_and(|token| token.reveal() == "sesame");
///         let identity = Identity { subject: Some("ali".into()), ..Identity::default() };
///         ready(known.then_some(identity).ok_or(Denied::Unauthorized)).boxed()
///     }
/// }
/// ```
pub trait Authorize: Send + Sync + 'static {
    /// Decides about one client.
    ///
    /// Called before an upgrade, and again for each fresh token that a client sends. The decision
    /// may take time, but the client's deadlines run on, and dropping the future ends it.
    fn authorize(&self, ask: Ask) -> BoxFuture<'static, Result<Identity, Denied>>;

    /// Whether a decision about clients of this service is possible at present; by default always.
    ///
    /// While no decision is possible for any one service, `/readyz` fails, so that no clients are
    /// sent to a server that would admit none of them. Called often; must return at once.
    ///
    /// # Errors
    ///
    /// [`NotReady`], with the reason.
    fn readiness(&self, service: &ServiceName) -> Result<(), NotReady> {
        let _decides_at_once = service;
        Ok(())
    }
}

/// The reason why no clients should be sent to this server at present, for its operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

/// The request of a client to join a service.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The room to join; a service, which is a room without a key, is registered. No room need
    /// exist: a client that may join it may also make it.
    pub room: Room,
    /// The client's token, if it sent one; at most
    /// [`TOKEN_BYTES_MAX`](crate::limits::TOKEN_BYTES_MAX).
    pub token: Option<Token>,
    /// The present date and time.
    pub wall: SystemTime,
}

/// The reason why a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The client, as identified by its token, may not join this service: 403.
    #[error("you may not join this service")]
    Forbidden,
    /// The client sent no token, or no valid one: 401.
    #[error("a valid token is needed")]
    Unauthorized,
    /// The client cannot be identified at present: 503.
    #[error("the server cannot decide now whether you may join")]
    Unavailable {
        /// The time after which the client may ask again; sent in whole seconds, rounded up.
        retry_after: Duration,
    },
}

impl Denied {
    /// No decision at present; the client may ask again in a second.
    pub(crate) const UNDECIDED: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
    };
}

/// Lets every client join every service and room as anonymous, with any token or none: the default.
///
/// A room whose key begins with `$` needs a grant, which no client has here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authorize for Anyone {
    fn authorize(&self, ask: Ask) -> BoxFuture<'static, Result<Identity, Denied>> {
        let decision = if ask.room.needs_grant() {
            Err(Denied::Forbidden)
        } else {
            Ok(Identity::anonymous())
        };
        ready(decision).boxed()
    }
}
