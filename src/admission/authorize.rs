//! Who may join: the decision, which an embedding program can make by itself.

use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt, ready};

use crate::bus::ServiceName;
use crate::client::identity::{Identity, Token};

/// Decides who may join a service.
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
    /// It is asked before an upgrade, and again for each fresh token that a client sends. It may
    /// take its time, but the client's deadlines run on, and dropping the future ends it.
    fn authorize(&self, ask: Ask) -> BoxFuture<'static, Result<Identity, Denied>>;

    /// Whether it can decide about clients of this service at present; by default it always can.
    ///
    /// While it cannot for any service, `/readyz` fails, so that no clients are sent to a server
    /// that would let none of them in. It is asked often, and must answer at once.
    ///
    /// # Errors
    ///
    /// [`NotReady`], which says why not.
    fn readiness(&self, service: &ServiceName) -> Result<(), NotReady> {
        let _decides_at_once = service;
        Ok(())
    }
}

/// Why no clients should be sent to this server at present, in words for its operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

/// What a client asks for, and what it shows.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The service, which exists.
    pub service: ServiceName,
    /// What it shows, if anything; at most [`TOKEN_BYTES_MAX`](crate::limits::TOKEN_BYTES_MAX).
    pub token: Option<Token>,
    /// The present date and time.
    pub wall: SystemTime,
}

/// Why a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It may not join this service, whoever it is by what it has shown: 403.
    #[error("you may not join this service")]
    Forbidden,
    /// It has shown nothing, or nothing that is believed: 401.
    #[error("a valid token is needed")]
    Unauthorized,
    /// It cannot be told now who the client is: 503.
    #[error("nobody can tell now who you are")]
    Unavailable {
        /// When the client may ask again; it is told in whole seconds, and never too early.
        retry_after: Duration,
    },
}

impl Denied {
    /// It cannot be told now, and perhaps in a second.
    pub(crate) const UNDECIDED: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
    };
}

/// Lets everybody join everything, and believes nobody: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authorize for Anyone {
    fn authorize(&self, _: Ask) -> BoxFuture<'static, Result<Identity, Denied>> {
        ready(Ok(Identity::anonymous())).boxed()
    }
}
