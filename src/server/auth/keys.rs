//! Keys that sign tokens, each for one algorithm.

use jsonwebtoken::crypto::verify;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;
use tracing::warn;

use crate::limits::TOKEN_KEYS_MAX;

/// Maximum number of keys of one source.
const KEYS_MAX: usize = 32;

/// Shortest secret, in bytes: as long as the hash of HS256 (RFC 7518 3.2).
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// Shortest RSA modulus, in bytes (RFC 7518 3.3).
const RSA_BYTES_MIN: usize = 256;

/// A set of keys.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

/// A key with its algorithm, which the content of a token cannot change.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: DecodingKey,
}

/// Why keys could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The source contains no usable key.
    #[error("there is no key in it for RS, PS or ES (P-256, P-384) signatures, Ed25519 or HMAC")]
    None,
    /// The source is neither PEM nor a JWKS.
    #[error("it is neither PEM, with public keys, nor a JWKS")]
    Neither,
    /// The source contains a private key.
    #[error("there is a private key in it, which must not be here: only public keys are needed")]
    Private,
    /// The secret is too short.
    #[error("a secret needs at least {SECRET_BYTES_MIN} bytes, best from a random source")]
    ShortSecret,
    /// The source contains too many keys.
    #[error("there are more than {KEYS_MAX} keys in it")]
    TooMany,
}

/// Whether secrets may be among the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Secrets are allowed, in a file that only this server reads.
    Allowed,
    /// Secrets are refused, because published keys are readable for all.
    Refused,
}

impl Keys {
    /// A secret that this server shares with the issuer, for HS256.
    ///
    /// # Errors
    ///
    /// When the secret is too short.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self::weak_secret(secret))
    }

    /// A secret of any length, for HS256 and for trials: whoever guesses a short one signs tokens.
    pub fn weak_secret(secret: &[u8]) -> Self {
        Self(vec![Key {
            id: None,
            algorithm: Algorithm::HS256,
            material: DecodingKey::from_secret(secret),
        }])
    }

    /// The keys of a file: public keys in PEM, or a JWKS.
    ///
    /// A PEM key is for RS256, ES256, ES384 or EdDSA, depending on its type. A JWK is for its
    /// `alg`, or for the same algorithms if it has none.
    ///
    /// # Errors
    ///
    /// When the file contains no usable key, or a private key.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        if text.trim_start().starts_with('{') {
            Self::jwks(text, Secrets::Allowed)
        } else {
            Self::pem(text)
        }
    }

    /// The keys of a JWKS; keys of unknown types are skipped.
    pub(super) fn jwks(text: &str, secrets: Secrets) -> Result<Self, KeyError> {
        let set: Value = serde_json::from_str(text).map_err(|_| KeyError::Neither)?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or(KeyError::Neither)?;
        if listed.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        if listed.iter().any(|key| key.get("d").is_some()) {
            return Err(KeyError::Private);
        }
        let keys = listed.iter().filter_map(Key::from_jwk);
        let secret = |key: &Key| key.material.family() == AlgorithmFamily::Hmac;
        Self::some(keys.filter(|key| secrets == Secrets::Allowed || !secret(key)))
    }

    fn pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let starts: Vec<_> = text
            .match_indices("-----BEGIN ")
            .map(|(at, _)| at)
            .collect();
        if starts.is_empty() {
            return Err(KeyError::Neither);
        }
        if starts.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let blocks = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| &text[*start..end]);
        Self::some(blocks.filter_map(|block| Key::from_pem(block.as_bytes())))
    }

    fn some(keys: impl Iterator<Item = Key>) -> Result<Self, KeyError> {
        let keys: Vec<_> = keys.collect();
        let some = !keys.is_empty();
        some.then_some(Self(keys)).ok_or(KeyError::None)
    }

    /// The union of two sets of keys.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys of these sources that may verify a token with this algorithm, at most
    /// [`TOKEN_KEYS_MAX`]. If the token names a key, keys of that name come first, followed by keys
    /// without a name; otherwise any key may verify it.
    pub(super) fn candidates<'a>(
        sources: [&'a Self; 2],
        algorithm: &str,
        id: Option<&str>,
    ) -> impl Iterator<Item = &'a Key> {
        let keys = sources.into_iter().flat_map(|keys| &keys.0);
        let keys = keys.filter(move |key| key.is_named(algorithm));
        let fits = move |key: &&Key, fit| key.fit(id) == Some(fit);
        let named = keys.clone().filter(move |key| fits(key, Fit::Same));
        let others = keys.filter(move |key| fits(key, Fit::Open));
        named.chain(others).take(TOKEN_KEYS_MAX)
    }

    /// Whether the set has a key with this name.
    pub(super) fn name(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The algorithms for which these sources together have more than [`TOKEN_KEYS_MAX`] keys, as a
    /// comma-separated list; empty if there are none.
    pub(super) fn crowded(sources: [&Self; 2]) -> String {
        let mut counts: Vec<(Algorithm, usize)> = Vec::new();
        for key in sources.into_iter().flat_map(|keys| &keys.0) {
            match counts.iter_mut().find(|(of, _)| *of == key.algorithm) {
                Some((_, count)) => *count += 1,
                None => counts.push((key.algorithm, 1)),
            }
        }
        let crowded = counts.iter().filter(|(_, count)| *count > TOKEN_KEYS_MAX);
        let names: Vec<_> = crowded.map(|(of, _)| format!("{of:?}")).collect();
        names.join(", ")
    }
}

/// Warns that some keys are never tried.
pub(super) fn tell_of(algorithms: &str) {
    warn!(
        algorithms,
        "there are more keys of an algorithm than a token is checked with that does not name its \
         key: it is checked with the first {TOKEN_KEYS_MAX}; let the issuer put a `kid` into each \
         token"
    );
}

/// How a key matches the name of a key in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// At most one of the two has a name.
    Open,
    /// The names are equal.
    Same,
}

impl Key {
    /// Whether the key is for the algorithm of this name.
    fn is_named(&self, algorithm: &str) -> bool {
        // `none` and unknown names do not parse as an algorithm.
        algorithm.parse() == Ok(self.algorithm)
    }

    /// How the key matches a name; `None` if it has a different name.
    fn fit(&self, id: Option<&str>) -> Option<Fit> {
        match (&self.id, id) {
            (Some(own), Some(id)) => (own == id).then_some(Fit::Same),
            (Some(_) | None, _) => Some(Fit::Open),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn material(&self) -> &DecodingKey {
        &self.material
    }

    fn from_pem(block: &[u8]) -> Option<Self> {
        let ec = |material: &DecodingKey| match material.try_get_as_bytes().ok()?.len() {
            // The length of an uncompressed point.
            65 => Some(Algorithm::ES256),
            97 => Some(Algorithm::ES384),
            _ => None,
        };
        let material = DecodingKey::from_ec_pem(block)
            .or_else(|_| DecodingKey::from_ed_pem(block))
            .or_else(|_| DecodingKey::from_rsa_pem(block))
            .ok()?;
        let algorithm = match material.family() {
            AlgorithmFamily::Ec => ec(&material)?,
            AlgorithmFamily::Ed => Algorithm::EdDSA,
            AlgorithmFamily::Rsa => Algorithm::RS256,
            AlgorithmFamily::Hmac => return None,
        };
        Self::usable(None, algorithm, material)
    }

    fn from_jwk(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let algorithm = match (text("alg"), text("kty")?, text("crv")) {
            (Some(name), _, _) => name.parse().ok()?,
            (None, "RSA", _) => Algorithm::RS256,
            (None, "EC", Some("P-256")) => Algorithm::ES256,
            (None, "EC", Some("P-384")) => Algorithm::ES384,
            (None, "OKP", Some("Ed25519")) => Algorithm::EdDSA,
            (None, "oct", _) => Algorithm::HS256,
            (None, _, _) => return None,
        };
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let material = DecodingKey::from_jwk(&jwk).ok()?;
        Self::usable(text("kid").map(str::to_owned), algorithm, material)
    }

    /// The key, if it is long enough and has the type that its algorithm needs.
    fn usable(id: Option<String>, algorithm: Algorithm, material: DecodingKey) -> Option<Self> {
        let long_enough = match (material.family(), material.kind()) {
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
                n.len() >= RSA_BYTES_MIN
            }
            // Most of the encoding is the modulus.
            (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => der.len() >= RSA_BYTES_MIN,
            (AlgorithmFamily::Hmac, _) => {
                material.try_get_as_bytes().ok()?.len() >= SECRET_BYTES_MIN
            }
            (AlgorithmFamily::Ec | AlgorithmFamily::Ed, _) => true,
        };
        // Verifying a wrong signature returns an error if the key is unusable.
        let usable = verify("AA", b"", &material, algorithm).is_ok();
        (long_enough && usable).then_some(Self {
            id,
            algorithm,
            material,
        })
    }
}
