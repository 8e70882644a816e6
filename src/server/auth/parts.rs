//! A token split into its three parts, not verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::{Map, Value};

use super::TokenError;

/// Shortest signature of a key that may be published, in bytes: the length of Ed25519 and P-256.
const SIGNATURE_BYTES_MIN: usize = 64;

/// A token with its parsed header.
pub(super) struct Parts<'a> {
    header: Map<String, Value>,
    /// The signed part.
    pub(super) message: &'a str,
    payload: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a token; parses the header only.
    pub(super) fn read(token: &'a str) -> Result<Self, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        if header.get("alg").and_then(Value::as_str).is_none() {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            header,
            message,
            payload,
            signature,
        })
    }

    /// The algorithm in the header.
    pub(super) fn algorithm(&self) -> &str {
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        algorithm.expect("a token without one is not read")
    }

    /// The name of the key in the header, if there is one.
    pub(super) fn id(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The claims as text.
    pub(super) fn payload(&self) -> Result<String, TokenError> {
        let payload = BASE64.decode(self.payload);
        let payload = payload.map_err(|_| TokenError::Malformed)?;
        String::from_utf8(payload).map_err(|_| TokenError::Malformed)
    }

    /// Whether the signature may be from a published key: the algorithm is asymmetric, and the
    /// signature is long enough.
    pub(super) fn may_have_a_published_key(&self) -> bool {
        let algorithm = self.algorithm().parse::<Algorithm>();
        let is_public = algorithm.is_ok_and(|known| known.family() != AlgorithmFamily::Hmac);
        let signature = BASE64.decode(self.signature);
        is_public && signature.is_ok_and(|signature| signature.len() >= SIGNATURE_BYTES_MIN)
    }
}

/// Decodes a part of a token that is a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = BASE64.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}
