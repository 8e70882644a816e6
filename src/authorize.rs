//! Who may join: the decision, which an embedding program can make by itself.

use std::time::SystemTime;

use futures::future::{BoxFuture, FutureExt, ready};

use crate::bus::ServiceName;
use crate::identity::{Identity, Token};

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
}

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
    /// Nobody can tell now: 503.
    #[error("nobody can tell now who you are")]
    Unavailable,
}

/// Lets everybody join everything, and believes nobody: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authorize for Anyone {
    fn authorize(&self, _: Ask) -> BoxFuture<'static, Result<Identity, Denied>> {
        ready(Ok(Identity::anonymous())).boxed()
    }
}
