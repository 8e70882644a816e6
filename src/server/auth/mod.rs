//! JSON Web Tokens: a client's identity and its grants, signed by a trusted issuer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jsonwebtoken::crypto::verify;
use tracing::debug;

use crate::admission::authorize::{
    Authorize, ConnectRequest, Denied, Grant, JoinRequest, NotReady,
};
use crate::bus::ServiceName;
use crate::client::identity::{Identity, Token};
use crate::limits::TOKEN_BYTES_MAX;

mod claims;
mod keys;
mod parts;
mod published;
mod remote;
mod schedule;
mod token;

pub use self::claims::ClaimError;
use self::claims::{Claims, Expected};
pub use self::keys::{KeyError, Keys};
use self::parts::Parts;
use self::published::News;
pub use self::remote::Remote;
pub(super) use self::token::{in_headers, in_query, query_without_token};

/// The clients that may join a service or a room; a room whose key begins with `$` needs a grant in
/// any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// Any client; a token that the client shows is checked nevertheless.
    Anyone,
    /// Clients with a valid token.
    Authenticated,
    /// Clients whose token names the service in its `services`, or the room in its `rooms`.
    #[default]
    Granted,
}

/// The rights of clients without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Such a client may join as if it had a token, unless a room needs a grant.
    All,
    /// Such a client may join likewise, and may send no message.
    Listen,
    /// Such a client may not join.
    No,
}

/// The requirements for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtPolicy {
    /// The accepted `aud` values; if empty, a token must have no `aud`.
    pub audiences: Vec<String>,
    /// The accepted `iss` values; if empty, any `iss` is accepted.
    pub issuers: Vec<String>,
    /// Maximum difference between the issuer's clock and this server's.
    pub leeway: Duration,
    /// The clients that may join each service; [`Join::Granted`] for a service that is not listed.
    pub services: BTreeMap<String, Join>,
    /// The rights of clients without a token in each service; for a service that is not listed,
    /// [`Anonymous::All`] where [`Join::Anyone`] may join, else [`Anonymous::No`].
    pub anonymous: BTreeMap<String, Anonymous>,
}

/// Authorizes clients by a JSON Web Token.
#[derive(Clone, Debug)]
pub struct Jwt {
    policy: Arc<JwtPolicy>,
    keys: Arc<Keys>,
    /// Keys that the issuer publishes.
    remote: Option<Remote>,
}

/// Why a token is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The claims are not sufficient.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The header requires an extension that is not supported.
    #[error("its header has `crit`")]
    Critical,
    /// The text is not a signed JSON Web Token.
    #[error("it is no signed JSON Web Token")]
    Malformed,
    /// No known key has made the signature with the algorithm of that key.
    #[error("no known key has signed it")]
    Signature,
    /// The token exceeds the maximum length.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// The signature may be from a published key that has not been fetched yet.
    #[error("its key is not among those that were fetched")]
    UnknownKey,
}

/// The progress of a decision about a client.
enum Decision {
    /// The decision is made.
    Made(Result<Identity, Denied>),
    /// The decision needs newer keys.
    NeedsKeys(Remote),
}

impl Jwt {
    /// Accepts tokens signed by one of these keys.
    pub fn new(keys: Keys, policy: JwtPolicy) -> Self {
        let crowded = Keys::crowded([&keys, &Keys::default()]);
        if !crowded.is_empty() {
            keys::tell_of(&crowded);
        }
        Self {
            policy: Arc::new(policy),
            keys: Arc::new(keys),
            remote: None,
        }
    }

    /// Accepts tokens signed by published keys, too.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        remote.stand_beside(Arc::clone(&self.keys));
        let remote = Some(remote);
        Self { remote, ..self }
    }

    /// Verifies a token at the time `wall`, and returns its claims.
    ///
    /// # Errors
    ///
    /// When the token is rejected; the text is for the log and contains no part of the token.
    pub fn check(&self, token: &str, wall: SystemTime) -> Result<Checked, TokenError> {
        // Check the length before any parsing.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let parts = Parts::read(token)?;
        let remote = self.remote.as_ref().map(Remote::keys).unwrap_or_default();
        let sources = [&*self.keys, &*remote];
        let algorithm = parts.algorithm();
        // The key determines the algorithm; the token's header only selects among the keys.
        let mut candidates = Keys::candidates(sources, algorithm, parts.id());
        let message = parts.message.as_bytes();
        let is_signed = candidates.any(|key| {
            verify(parts.signature, message, key.material(), key.algorithm()).unwrap_or(false)
        });
        if is_signed {
            return self.believe(&parts, wall);
        }
        if self.may_be_published(&parts, sources) && self.believe(&parts, wall).is_ok() {
            return Err(TokenError::UnknownKey);
        }
        Err(TokenError::Signature)
    }

    /// Whether the signature may be from a published key that is not fetched yet: the token names
    /// an unknown key, or no fetch has succeeded so far.
    fn may_be_published(&self, parts: &Parts<'_>, sources: [&Keys; 2]) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        let is_unknown = match parts.id() {
            Some(id) => !sources.into_iter().any(|keys| keys.name(id)),
            None => !remote.is_known(),
        };
        is_unknown && parts.may_have_a_published_key()
    }

    /// Checks the claims of a token at the time `wall`, without its signature.
    fn believe(&self, parts: &Parts<'_>, wall: SystemTime) -> Result<Checked, TokenError> {
        let json = parts.payload()?;
        let claims = Claims::parse(&json)?;
        let expected = Expected {
            audiences: &self.policy.audiences,
            issuers: &self.policy.issuers,
            leeway: self.policy.leeway,
        };
        let expires = claims.check(&expected, wall)?;
        Ok(Checked {
            identity: Identity {
                subject: claims.subject.as_deref().map(Into::into),
                claims: Some(json.into()),
                expires: Some(expires),
            },
        })
    }

    fn rule(&self, service: &ServiceName) -> Join {
        let join = self.policy.services.get(service.as_str()).copied();
        join.unwrap_or_default()
    }

    fn anonymous(&self, service: &ServiceName) -> Anonymous {
        let anonymous = self.policy.anonymous.get(service.as_str()).copied();
        let by_rule = || match self.rule(service) {
            Join::Anyone => Anonymous::All,
            Join::Authenticated | Join::Granted => Anonymous::No,
        };
        anonymous.unwrap_or_else(by_rule)
    }

    /// Decides who a client with this token is.
    fn identify(&self, token: &Token, wall: SystemTime) -> Decision {
        let error = match self.check(token.reveal(), wall) {
            Ok(checked) => return Decision::Made(Ok(checked.identity)),
            Err(error) => error,
        };
        debug!(%error, "a token was rejected");
        match (error, &self.remote) {
            (TokenError::UnknownKey, Some(remote)) => Decision::NeedsKeys(remote.clone()),
            (TokenError::Claim(ClaimError::Expired), _) => Decision::Made(Err(Denied::Expired)),
            _ => Decision::Made(Err(Denied::Unauthorized)),
        }
    }

    /// Decides whether a client may join a room.
    fn decide(&self, request: &JoinRequest) -> Result<Grant, Denied> {
        let kind = request.room.kind();
        let Some(json) = &request.identity.claims else {
            return match self.anonymous(kind) {
                _ if request.needs_grant => Err(Denied::Unauthorized),
                Anonymous::No => Err(Denied::Unauthorized),
                Anonymous::Listen => Ok(Grant::default().publishing(false)),
                Anonymous::All => Ok(Grant::default()),
            };
        };
        let needs_grant = request.needs_grant || self.rule(kind) == Join::Granted;
        // The claims were read before, when the token was checked.
        let is_granted = || Claims::parse(json).is_ok_and(|claims| claims.grant(&request.room));
        if needs_grant && !is_granted() {
            return Err(Denied::Forbidden);
        }
        Ok(Grant::default())
    }

    /// Waits for newer keys and decides, or returns when to try again.
    async fn identify_anew(
        self,
        token: Token,
        wall: SystemTime,
        remote: Remote,
    ) -> Result<Identity, Denied> {
        loop {
            let news = remote.news().await;
            if let Decision::Made(decision) = self.identify(&token, wall) {
                return decision;
            }
            match news {
                // All keys that were published when the client asked are known now.
                News::Fetched { is_fresh: true } => return Err(Denied::Unauthorized),
                News::Fetched { is_fresh: false } => {}
                News::Later { retry_after } => return Err(Denied::Unavailable { retry_after }),
            }
        }
    }
}

/// A token that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The client's identity.
    pub identity: Identity,
}

impl Authorize for Jwt {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        let ConnectRequest { token, wall } = request;
        let Some(token) = token else {
            return ready(Ok(Identity::anonymous())).boxed();
        };
        match self.identify(&token, wall) {
            Decision::Made(decision) => ready(decision).boxed(),
            Decision::NeedsKeys(remote) => self.clone().identify_anew(token, wall, remote).boxed(),
        }
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
        ready(self.decide(&request)).boxed()
    }

    fn readiness(&self, service: &ServiceName) -> Result<(), NotReady> {
        let unknown = self.remote.as_ref().filter(|remote| !remote.is_known());
        let needs_token = self.anonymous(service) == Anonymous::No;
        match unknown {
            Some(remote) if needs_token && self.keys.is_empty() => Err(NotReady(format!(
                "no published keys yet: none could be fetched from {} so far, and without them no \
                 token can be checked",
                remote.url()
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
