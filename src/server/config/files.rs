//! Reads the files named in the configuration: keys that sign tokens, certificates, root
//! certificates.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::schema::{AuthKeys, TlsKeys};
use super::source::Place;
use super::value::Parsed;
use crate::server::auth::Keys;
use crate::server::{Roots, RootsError, Tls, Url};

/// Hashes of the contents of the files that settings name, to detect changes.
///
/// The server's certificate is not included, because it is reloaded independently of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<Place, u64>);

impl Files {
    /// Reads the file of a setting.
    fn read(&mut self, place: Place, path: &Path) -> io::Result<Vec<u8>> {
        // Read the file once only: a pipe can be read only once.
        let content = std::fs::read(path)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        self.0.insert(place, hasher.finish());
        Ok(content)
    }

    /// The settings whose files were read both times, with different content.
    pub(super) fn changed<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a Place> {
        self.0.iter().filter_map(|(place, old)| {
            let new = newer.0.get(place)?;
            (old != new).then_some(place)
        })
    }

    /// Replaces the hash for a setting by the hash of an older configuration.
    pub(super) fn keep(&mut self, place: &Place, older: &Self) {
        if let Some(content) = older.0.get(place) {
            self.0.insert(place.clone(), *content);
        }
    }
}

/// Reads the keys; errors are added to the problems.
pub(super) fn keys(auth: &AuthKeys, files: &mut Files, problems: &mut Vec<Problem>) -> Keys {
    let secret = auth.secret.as_ref();
    // A short one was checked before.
    let secret = secret.map(|secret| Keys::weak_secret(secret.0.as_bytes()));
    let keys = secret.unwrap_or_default();
    let Some(path) = &auth.keys else {
        return keys;
    };
    let content = files.read(Place::new("auth", "keys"), path);
    let text = content.and_then(|content| String::from_utf8(content).map_err(io::Error::other));
    let text = text.map_err(|error| error.to_string());
    match text.and_then(|text| Keys::read(&text).map_err(|error| error.to_string())) {
        Ok(read) => keys.and(read),
        Err(error) => {
            let path = path.display().to_string();
            problems.push(Problem::Read { path, error });
            keys
        }
    }
}

/// Reads the certificate and its key; errors are added to the problems.
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

/// The setting for a file of root certificates, and its value, if it is set.
pub(super) struct Authorities<'a> {
    pub(super) place: Place,
    pub(super) file: Option<&'a PathBuf>,
}

/// The root certificates for a URL; errors are added to the problems.
pub(super) fn roots(
    url: Option<&Parsed<Url>>,
    authorities: Authorities<'_>,
    files: &mut Files,
    problems: &mut Vec<Problem>,
) -> Option<Roots> {
    let is_secure = url.is_some_and(|url| url.0.is_secure());
    let roots = match authorities.file {
        Some(_) if !is_secure => {
            let word = "a file of authorities is for a URL of https:// and nothing else";
            problems.push(Problem::Conflict(word));
            return None;
        }
        Some(path) => match files.read(authorities.place, path) {
            Ok(content) => Roots::of_file(path, &content),
            Err(error) => Err(RootsError::file(path, &error)),
        },
        None if is_secure => Roots::system(),
        None => return None,
    };
    roots
        .map_err(|error| problems.push(Problem::Roots(error)))
        .ok()
}
