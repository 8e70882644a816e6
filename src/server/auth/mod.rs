//! JSON Web Tokens: who a client is and what it may join, signed by somebody who is believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jsonwebtoken::crypto::verify;
use serde_json::{Map, Value};
use tracing::debug;

use crate::authorize::{Ask, Authorize, Denied};
use crate::identity::Identity;
use crate::limits::TOKEN_BYTES_MAX;

mod claims;
mod keys;
mod remote;
mod token;

pub use self::claims::ClaimError;
use self::claims::{Claims, Expected};
#[cfg(feature = "cli")]
pub(super) use self::keys::SECRET_BYTES_MIN;
pub use self::keys::{KeyError, Keys};
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
    keys: Keys,
    /// Keys that somebody else publishes.
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
            keys,
            remote: None,
        }
    }

    /// Believes also the keys that somebody else publishes.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        let remote = Some(remote);
        Self { remote, ..self }
    }

    /// What a token says, if it is believed at this time.
    ///
    /// # Errors
    ///
    /// When it is not; the text is for the log and names no part of the token.
    pub fn check(&self, token: &str, wall: SystemTime) -> Result<Checked, TokenError> {
        // Before anything looks into it.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let text = |name| header.get(name).and_then(Value::as_str);
        let algorithm = text("alg").ok_or(TokenError::Malformed)?;
        if !self.signed(algorithm, text("kid"), message, signature) {
            return Err(TokenError::Signature);
        }
        let payload = BASE64.decode(payload).map_err(|_| TokenError::Malformed)?;
        let json = String::from_utf8(payload).map_err(|_| TokenError::Malformed)?;
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

    /// Whether a key of ours with this algorithm has made the signature.
    fn signed(&self, algorithm: &str, id: Option<&str>, message: &str, signature: &str) -> bool {
        let remote = self.remote.as_ref().map(Remote::keys).unwrap_or_default();
        // The algorithm is the key's: what the token says only chooses among the keys.
        let mut candidates = Keys::candidates([&self.keys, &remote], algorithm, id);
        candidates.any(|key| {
            let message = message.as_bytes();
            verify(signature, message, key.material(), key.algorithm()).unwrap_or(false)
        })
    }

    /// What a client is told whose token is not believed.
    fn denied(&self, error: &TokenError) -> Denied {
        let unknown = self
            .remote
            .as_ref()
            .is_some_and(|remote| !remote.is_known());
        if unknown && *error == TokenError::Signature {
            Denied::Unavailable
        } else {
            Denied::Unauthorized
        }
    }

    fn decide(&self, ask: &Ask) -> Result<Identity, Denied> {
        let service = ask.service.as_str();
        let join = self.policy.services.get(service).copied();
        let join = join.unwrap_or_default();
        let Some(token) = &ask.token else {
            return match join {
                Join::Anyone => Ok(Identity::anonymous()),
                Join::Authenticated | Join::Granted => Err(Denied::Unauthorized),
            };
        };
        let checked = self.check(token.reveal(), ask.wall).map_err(|error| {
            debug!(service, %error, "a token is not believed");
            self.denied(&error)
        })?;
        match join {
            Join::Granted if !checked.claims.grant(service) => Err(Denied::Forbidden),
            Join::Anyone | Join::Authenticated | Join::Granted => Ok(checked.identity),
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
        ready(self.decide(&ask)).boxed()
    }
}

/// A part of a token that is a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = BASE64.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests;
