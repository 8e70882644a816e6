//! JSON Web Tokens: who a client is and what it may join, signed by somebody who is believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jsonwebtoken::crypto::verify;
use tracing::debug;

use crate::admission::authorize::{Ask, Authorize, Denied, NotReady};
use crate::bus::ServiceName;
use crate::client::identity::Identity;
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
#[cfg(feature = "cli")]
pub(super) use self::keys::SECRET_BYTES_MIN;
pub use self::keys::{KeyError, Keys};
use self::parts::Parts;
use self::published::News;
pub use self::remote::Remote;
pub(super) use self::token::find;

/// Who may join a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// Everybody; a token that is shown is checked all the same.
    Anyone,
    /// Whoever shows a valid token.
    Authenticated,
    /// Whose token names the service in its `services`.
    #[default]
    Granted,
}

/// What a token must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtPolicy {
    /// Of its `aud`, one must be among these; if these are none, it must have no `aud`.
    pub audiences: Vec<String>,
    /// Its `iss` must be one of these; if these are none, it may be any.
    pub issuers: Vec<String>,
    /// How far its issuer's clock and ours may be apart.
    pub leeway: Duration,
    /// Who may join each service; [`Join::Granted`] for one that is not here.
    pub services: BTreeMap<String, Join>,
}

/// Decides by a JSON Web Token.
#[derive(Clone, Debug)]
pub struct Jwt {
    policy: Arc<JwtPolicy>,
    keys: Arc<Keys>,
    /// Keys that the issuer publishes.
    remote: Option<Remote>,
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// What it says is not enough.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its header asks for something that is unknown here.
    #[error("its header has `crit`")]
    Critical,
    /// It is no JSON Web Token.
    #[error("it is no signed JSON Web Token")]
    Malformed,
    /// No key that there is has signed it with that key's algorithm.
    #[error("no key of ours has signed it")]
    Signature,
    /// It is longer than a token may be.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// A key may have signed it that is published, and that has not been fetched yet.
    #[error("its key is not among those that were fetched")]
    UnknownKey,
}

/// How far the decision about a client has come.
enum Decision {
    /// It is made.
    Made(Result<Identity, Denied>),
    /// It needs newer keys.
    NeedsKeys(Remote),
}

impl Jwt {
    /// Believes tokens that one of these keys has signed.
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

    /// Believes also the keys that somebody else publishes.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        remote.stand_beside(Arc::clone(&self.keys));
        let remote = Some(remote);
        Self { remote, ..self }
    }

    /// The claims of a token, if it is believed at this time.
    ///
    /// # Errors
    ///
    /// When it is not; the text is for the log and names no part of the token.
    pub fn check(&self, token: &str, wall: SystemTime) -> Result<Checked, TokenError> {
        // Before anything looks into it.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let parts = Parts::read(token)?;
        let remote = self.remote.as_ref().map(Remote::keys).unwrap_or_default();
        let sources = [&*self.keys, &*remote];
        let algorithm = parts.algorithm();
        // The algorithm is the key's: what the token says only chooses among the keys.
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

    /// Whether a key may have signed this that is published and not fetched yet: the token names a
    /// key that is unknown, or nothing was ever fetched.
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

    /// The claims of a token, if they are enough at this time; its signature is not looked at.
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
            claims,
        })
    }

    fn join(&self, service: &ServiceName) -> Join {
        let join = self.policy.services.get(service.as_str()).copied();
        join.unwrap_or_default()
    }

    fn decide(&self, ask: &Ask) -> Decision {
        let join = self.join(&ask.service);
        let Some(token) = &ask.token else {
            return Decision::Made(match join {
                Join::Anyone => Ok(Identity::anonymous()),
                Join::Authenticated | Join::Granted => Err(Denied::Unauthorized),
            });
        };
        let service = ask.service.as_str();
        let checked = match self.check(token.reveal(), ask.wall) {
            Ok(checked) => checked,
            Err(error) => {
                debug!(service, %error, "a token is not believed");
                return match (error, &self.remote) {
                    (TokenError::UnknownKey, Some(remote)) => Decision::NeedsKeys(remote.clone()),
                    _ => Decision::Made(Err(Denied::Unauthorized)),
                };
            }
        };
        Decision::Made(match join {
            Join::Granted if !checked.claims.grant(service) => Err(Denied::Forbidden),
            Join::Anyone | Join::Authenticated | Join::Granted => Ok(checked.identity),
        })
    }

    /// Decides by keys that are newer than this moment, or says when there may be some.
    async fn decide_anew(self, ask: Ask, remote: Remote) -> Result<Identity, Denied> {
        loop {
            let news = remote.news().await;
            if let Decision::Made(decision) = self.decide(&ask) {
                return decision;
            }
            match news {
                // All keys that were published when it was shown are known now.
                News::Fetched { is_fresh: true } => return Err(Denied::Unauthorized),
                News::Fetched { is_fresh: false } => {}
                News::Later { retry_after } => return Err(Denied::Unavailable { retry_after }),
            }
        }
    }
}

/// A token that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who has it.
    pub identity: Identity,
    claims: Claims,
}

impl Authorize for Jwt {
    fn authorize(&self, ask: Ask) -> BoxFuture<'static, Result<Identity, Denied>> {
        match self.decide(&ask) {
            Decision::Made(decision) => ready(decision).boxed(),
            Decision::NeedsKeys(remote) => self.clone().decide_anew(ask, remote).boxed(),
        }
    }

    fn readiness(&self, service: &ServiceName) -> Result<(), NotReady> {
        let unknown = self.remote.as_ref().filter(|remote| !remote.is_known());
        let needs_token = self.join(service) != Join::Anyone;
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
