//! The decisions who a client is and what it may join, which an embedding program can make.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt, ready};

use crate::bus::{Room, ServiceName};
pub use crate::client::grant::Grant;
use crate::client::identity::{Identity, Token};

/// Decides who a client is, and which rooms it may join.
///
/// ```
/// use busline::authorize::{Authorize, ConnectRequest, Denied, Grant, JoinRequest};
/// use busline::identity::Identity;
/// use futures::FutureExt;
/// use futures::future::{BoxFuture, ready};
///
/// /// Knows one user, who may write; any other client may read.
/// struct Password;
///
/// impl Authorize for Password {
///     fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
///         let identity = match request.token {
///             None => Ok(Identity::anonymous()),
///             Some(token) if token.reveal() == "sesame" => {
///                 Ok(Identity { subject: Some("ali".into()), ..Identity::default() })
///             }
///             Some(_) => Err(Denied::Unauthorized),
///         };
///         ready(identity).boxed()
///     }
///
///     fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
///         let grant = Grant::default();
///         ready(Ok(match request.identity.subject {
///             Some(_) => grant,
///             None => grant.publishing(false),
///         }))
///         .boxed()
///     }
/// }
/// ```
pub trait Authorize: Send + Sync + 'static {
    /// Decides who a client is.
    ///
    /// Called once for each connection before its upgrade, and again for each fresh token that a
    /// client sends. The decision may take time, but the client's deadlines run on, and dropping
    /// the future ends it.
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>>;

    /// Decides whether a client may join a room or service, and its rights there.
    ///
    /// Called once for each room that a client joins, after [`connect`](Self::connect), and again
    /// for each fresh token. The decision may take time as there. By default every client may join
    /// every room that needs no grant.
    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
        let may_join = !request.needs_grant;
        let decision = may_join.then(Grant::default).ok_or(Denied::Forbidden);
        ready(decision).boxed()
    }

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

/// The request of a client to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The client's token, if it sent one; at most
    /// [`TOKEN_BYTES_MAX`](crate::limits::TOKEN_BYTES_MAX).
    pub token: Option<Token>,
    /// The present date and time.
    pub wall: SystemTime,
}

/// The request of a connected client to join a room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JoinRequest {
    /// The client's identity.
    pub identity: Identity,
    /// The room to join; a service, which is a room without a key, is registered. No room need
    /// exist: a client that may join it may also make it.
    pub room: Room,
    /// Whether only a client with a grant for this very room may join, whatever else holds: the
    /// room's key begins with `$`, or names users and this client is none of them.
    pub needs_grant: bool,
}

/// A client that may join a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    pub(crate) grant: Grant,
}

/// The room that a client wants to join, and its credentials.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) room: Room,
    /// Whether the key of a room may name the only users that join without a grant.
    pub(crate) is_user_limited: bool,
    /// The client's token, if it sent one; at most
    /// [`TOKEN_BYTES_MAX`](crate::limits::TOKEN_BYTES_MAX).
    pub(crate) token: Option<Token>,
    /// The present date and time.
    pub(crate) wall: SystemTime,
}

/// Asks both questions about a client.
pub(crate) async fn admit(authorize: Arc<dyn Authorize>, ask: Ask) -> Result<Admitted, Denied> {
    let Ask {
        room, token, wall, ..
    } = ask;
    let identity = authorize.connect(ConnectRequest { token, wall }).await?;
    let is_listed = room.lists(identity.subject.as_deref());
    let request = JoinRequest {
        identity: identity.clone(),
        needs_grant: room.needs_grant() || (ask.is_user_limited && !is_listed),
        room,
    };
    let grant = authorize.join(request).await?;
    Ok(Admitted { identity, grant })
}

/// The reason why a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The client's token was good and has expired: 401, or 204 to a client of events, which would
    /// come back with the same token for ever.
    #[error("the token has expired")]
    Expired,
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
    fn connect(&self, _: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        ready(Ok(Identity::anonymous())).boxed()
    }
}
