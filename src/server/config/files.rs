//! The files that the configuration names: keys that sign tokens, and the certificate.

use super::problem::Problem;
use super::schema::{AuthKeys, TlsKeys};
use crate::server::Tls;
use crate::server::auth::Keys;

/// Reads the keys; what is wrong with them is added to the problems.
pub(super) fn read(auth: &AuthKeys, problems: &mut Vec<Problem>) -> Keys {
    let secret = auth.secret.as_ref();
    let secret = secret.and_then(|secret| Keys::secret(secret.0.as_bytes()).ok());
    let keys = secret.unwrap_or_default();
    let Some(path) = &auth.keys else {
        return keys;
    };
    let path = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    match text.and_then(|text| Keys::read(&text).map_err(|error| error.to_string())) {
        Ok(read) => keys.and(read),
        Err(error) => {
            problems.push(Problem::Read { path, error });
            keys
        }
    }
}

/// Reads the certificate and its key; what is wrong with them is added to the problems.
pub(super) fn tls(keys: &TlsKeys, problems: &mut Vec<Problem>) -> Option<Tls> {
    match (&keys.certificate, &keys.key) {
        (Some(certificate), Some(key)) => {
            let tls = Tls::read(certificate, key);
            tls.map_err(|error| problems.push(Problem::Tls(error))).ok()
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let word = "[tls] needs both a `certificate` and its `key`";
            problems.push(Problem::Conflict(word));
            None
        }
    }
}
