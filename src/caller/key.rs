//! The keys of callers: each with a name for the log, and with its rights.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::Method;
use crate::bus::ServiceName;

/// Shortest key, in bytes: 256 bits of a random source.
pub const SECRET_BYTES_MIN: usize = 32;

/// The rights of a key, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    name: Box<str>,
    /// `None` for all.
    methods: Option<BTreeSet<Method>>,
    /// `None` for all.
    kinds: Option<BTreeSet<ServiceName>>,
}

impl Rights {
    /// The rights to call every method for every service and kind of rooms, under this name.
    pub fn all(name: &str) -> Self {
        Self {
            name: name.into(),
            methods: None,
            kinds: None,
        }
    }

    /// Leaves these methods alone.
    #[must_use]
    pub fn only_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods = Some(methods.into_iter().collect());
        Self { methods, ..self }
    }

    /// Leaves these services and kinds of rooms alone.
    #[must_use]
    pub fn only_kinds(self, kinds: impl IntoIterator<Item = ServiceName>) -> Self {
        let kinds = Some(kinds.into_iter().collect());
        Self { kinds, ..self }
    }

    /// The name of the key, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the key is for this method. A batch is for every key: its commands are looked at.
    pub fn may_call(&self, method: Method) -> bool {
        let methods = self.methods.as_ref();
        method == Method::Batch || methods.is_none_or(|methods| methods.contains(&method))
    }

    /// Whether the key is for this service or kind of rooms.
    pub fn reach(&self, kind: &ServiceName) -> bool {
        let kinds = self.kinds.as_ref();
        kinds.is_none_or(|kinds| kinds.contains(kind))
    }
}

/// A key with its rights.
#[derive(Clone)]
pub struct Key {
    secret: Box<[u8]>,
    rights: Arc<Rights>,
}

/// The reason why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty, or has a character that no header carries.
    #[error("a key is of printable ASCII characters without spaces")]
    Unprintable,
    /// The key is too short.
    #[error("a key needs at least {SECRET_BYTES_MIN} bytes, best from a random source")]
    Weak,
}

impl Key {
    /// Makes a key of a secret that only the caller and this server know.
    ///
    /// # Errors
    ///
    /// When the secret is short enough to be guessed, or no header can carry it.
    pub fn new(secret: &str, rights: Rights) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::Weak);
        }
        Self::weak(secret, rights)
    }

    /// Makes a key of a secret of any length, for trials: a short one can be guessed.
    ///
    /// # Errors
    ///
    /// When no header can carry it.
    pub fn weak(secret: &str, rights: Rights) -> Result<Self, KeyError> {
        let is_printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if secret.is_empty() || !is_printable {
            return Err(KeyError::Unprintable);
        }
        Ok(Self {
            secret: secret.as_bytes().into(),
            rights: Arc::new(rights),
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.rights.name).finish()
    }
}

/// The keys of an application.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<[Key]>);

impl Keys {
    /// Makes the set of these keys; without any nobody may call.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rights of the key that a caller shows.
    ///
    /// The time tells nothing about the bytes of a key, nor which one was shown: every key is
    /// compared whole. It may tell the length of a key, which is no secret.
    pub fn find(&self, shown: &[u8]) -> Option<&Arc<Rights>> {
        self.0.iter().fold(None, |found, key| {
            let is_it = bool::from(key.secret.ct_eq(shown));
            found.or_else(|| is_it.then_some(&key.rights))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_key_is_found_by_its_whole_secret_only() {
        let other = SECRET.replace('f', "g");
        let keys = Keys::new([
            Key::new(SECRET, Rights::all("one")).expect("long enough"),
            Key::new(&other, Rights::all("two")).expect("long enough"),
        ]);
        let name = |shown: &str| keys.find(shown.as_bytes()).map(|rights| rights.name());
        assert_eq!(name(SECRET), Some("one"));
        assert_eq!(name(&other), Some("two"));
        let longer = format!("{SECRET}0");
        for wrong in ["", &SECRET[1..], &SECRET[..31], &longer, "one"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(Keys::default().find(b""), None);
        assert!(!format!("{keys:?}").contains(SECRET));
    }

    #[test]
    fn a_secret_is_long_and_fits_into_a_header() {
        let made = |secret: &str| Key::new(secret, Rights::all("a")).map(drop);
        assert_eq!(made(SECRET), Ok(()));
        assert_eq!(made(&SECRET[1..]), Err(KeyError::Weak));
        assert_eq!(made(&format!("{SECRET} ")), Err(KeyError::Unprintable));
        assert_eq!(made(&format!("{SECRET}\u{e9}")), Err(KeyError::Unprintable));
        let weak = |secret: &str| Key::weak(secret, Rights::all("a")).map(drop);
        assert_eq!(weak("k"), Ok(()));
        assert_eq!(weak(""), Err(KeyError::Unprintable));
    }

    #[test]
    fn few_rights_are_those_alone() {
        let kind = |name: &str| name.parse::<ServiceName>().expect("a name");
        let all = Rights::all("a");
        assert!(all.may_call(Method::Disconnect) && all.reach(&kind("chat")));
        let few = all
            .only_methods([Method::Publish])
            .only_kinds([kind("chat")]);
        assert!(few.may_call(Method::Publish) && few.may_call(Method::Batch));
        assert!(!few.may_call(Method::History));
        assert!(few.reach(&kind("chat")) && !few.reach(&kind("game")));
        let none = Rights::all("b").only_methods([]).only_kinds([]);
        assert!(!none.may_call(Method::Publish) && !none.reach(&kind("chat")));
    }
}
