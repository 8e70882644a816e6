//! The files that the configuration names: keys that sign tokens, certificates, whom to trust.

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

/// What was in the files that settings name, as far as a change of it can be noticed.
///
/// The certificate of the server is not among them: that is looked at apart from the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<Place, u64>);

impl Files {
    /// Reads a file for the setting at this place.
    fn read(&mut self, place: Place, path: &Path) -> io::Result<Vec<u8>> {
        // Once: of a pipe there is no second time.
        let content = std::fs::read(path)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        self.0.insert(place, hasher.finish());
        Ok(content)
    }

    /// The places whose files were read here and there, with other content.
    pub(super) fn changed<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a Place> {
        self.0.iter().filter_map(|(place, old)| {
            let new = newer.0.get(place)?;
            (old != new).then_some(place)
        })
    }

    /// Forgets what was read for this place in favour of what an older configuration has read.
    pub(super) fn keep(&mut self, place: &Place, older: &Self) {
        if let Some(content) = older.0.get(place) {
            self.0.insert(place.clone(), *content);
        }
    }
}

/// Reads the keys; what is wrong with them is added to the problems.
pub(super) fn keys(auth: &AuthKeys, files: &mut Files, problems: &mut Vec<Problem>) -> Keys {
    let secret = auth.secret.as_ref();
    let secret = secret.and_then(|secret| Keys::secret(secret.0.as_bytes()).ok());
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

/// A file of authorities, if it is set, and where.
pub(super) type Authorities<'a> = (Place, Option<&'a PathBuf>);

/// The authorities that a URL needs; what is wrong with them is added to the problems.
pub(super) fn roots(
    url: Option<&Parsed<Url>>,
    (place, file): Authorities<'_>,
    files: &mut Files,
    problems: &mut Vec<Problem>,
) -> Option<Roots> {
    let is_secure = url.is_some_and(|url| url.0.is_secure());
    let roots = match file {
        Some(_) if !is_secure => {
            let word = "a file of authorities is for a URL of https:// and nothing else";
            problems.push(Problem::Conflict(word));
            return None;
        }
        Some(path) => match files.read(place, path) {
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
