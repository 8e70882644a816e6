//! The files that the configuration names: keys that sign tokens, certificates, whom to trust.

use std::path::PathBuf;

use super::problem::Problem;
use super::schema::{AuthKeys, TlsKeys};
use super::value::Parsed;
use crate::server::auth::Keys;
use crate::server::{Roots, Tls, Url};

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

/// The authorities that a URL needs; what is wrong with them is added to the problems.
pub(super) fn roots(
    url: Option<&Parsed<Url>>,
    file: Option<&PathBuf>,
    problems: &mut Vec<Problem>,
) -> Option<Roots> {
    let is_secure = url.is_some_and(|url| url.0.is_secure());
    let roots = match file {
        Some(_) if !is_secure => {
            let word = "a file of authorities is for a URL of https:// and nothing else";
            problems.push(Problem::Conflict(word));
            return None;
        }
        Some(file) => Roots::read(file),
        None if is_secure => Roots::system(),
        None => return None,
    };
    roots
        .map_err(|error| problems.push(Problem::Roots(error)))
        .ok()
}
