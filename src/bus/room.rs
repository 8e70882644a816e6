//! Names of services and rooms.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{CHANNEL_BYTES_MAX, ROOM_KEY_BYTES_MAX, SERVICE_NAME_BYTES_MAX};

/// The name of a service or of a kind of rooms: 1 to [`SERVICE_NAME_BYTES_MAX`] of
/// `a-z 0-9 . _ -`, the first a letter or digit. A name needs no escape in a path or a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check(
            name,
            SERVICE_NAME_BYTES_MAX,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
        )?;
        match name.as_bytes()[0] {
            first if first.is_ascii_alphanumeric() => Ok(Self(name.into())),
            _ => Err(NameError::BadByte { at: 0 }),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A room: a kind and a key. A service is the only room of its kind, without a key.
///
/// Cheap to clone. The text of a room is its *channel*, `kind:key`; that of a service is its name.
/// The key of a room may be empty: `chat:` is a room of the kind `chat`, and no service. Rooms are
/// ordered by kind, then by key. Clones of one room are equal without a look at the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(Arc<Names>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Names {
    kind: ServiceName,
    /// `None` for a service.
    key: Option<Box<str>>,
}

impl Room {
    /// Makes the name of a room.
    ///
    /// A key has at most [`ROOM_KEY_BYTES_MAX`] printable ASCII characters, spaces included, and
    /// the channel has at most [`CHANNEL_BYTES_MAX`]. A room with an empty key has no address for
    /// clients: backends and the program reach it.
    ///
    /// # Errors
    ///
    /// When the key is no such key.
    pub fn new(kind: &ServiceName, key: &str) -> Result<Self, NameError> {
        let before_key = kind.as_str().len() + 1;
        let max = ROOM_KEY_BYTES_MAX.min(CHANNEL_BYTES_MAX - before_key);
        if !key.is_empty() {
            check(key, max, |byte| matches!(byte, b' '..=b'~'))?;
        }
        Ok(Self::named(kind, Some(key)))
    }

    fn named(kind: &ServiceName, key: Option<&str>) -> Self {
        Self(Arc::new(Names {
            kind: kind.clone(),
            key: key.map(Into::into),
        }))
    }

    /// The kind, or the name of the service.
    pub fn kind(&self) -> &ServiceName {
        &self.0.kind
    }

    /// The key; empty for a service.
    pub fn key(&self) -> &str {
        self.0.key.as_deref().unwrap_or_default()
    }

    /// Whether this is a service, which has no key.
    pub fn is_service(&self) -> bool {
        self.0.key.is_none()
    }

    /// Whether only clients with a grant may join: the key begins with `$`.
    pub fn needs_grant(&self) -> bool {
        self.key().starts_with('$')
    }

    /// Whether the key allows this subject: users follow the last `#` of a key, with commas
    /// between them, and a key without a `#` allows every client.
    pub fn lists(&self, subject: Option<&str>) -> bool {
        match self.key().rsplit_once('#') {
            Some((_, users)) => users.split(',').any(|user| Some(user) == subject),
            None => true,
        }
    }
}

impl From<&ServiceName> for Room {
    /// Makes the room of a service.
    fn from(service: &ServiceName) -> Self {
        Self::named(service, None)
    }
}

impl From<&Self> for Room {
    fn from(room: &Self) -> Self {
        room.clone()
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.key.as_deref() {
            None => write!(f, "{}", self.kind()),
            Some(key) => write!(f, "{}:{key}", self.kind()),
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The reason why a text is no name of a topic, a service or a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The byte at this position is not allowed there.
    #[error("the character at byte {at} is not allowed there")]
    BadByte {
        /// The position of the first such byte.
        at: usize,
    },
    /// The text is empty.
    #[error("a name needs at least one character")]
    Empty,
    /// The text is too long.
    #[error("the name has {bytes} bytes, {max} are allowed")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
        /// The largest allowed length in bytes.
        max: usize,
    },
}

/// Checks that a name has 1 to `max` bytes, all of them allowed.
pub(super) fn check(
    name: &str,
    max: usize,
    allowed: impl Fn(&u8) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max {
        let bytes = name.len();
        return Err(NameError::TooLong { bytes, max });
    }
    match name.bytes().position(|byte| !allowed(&byte)) {
        Some(at) => Err(NameError::BadByte { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_name_is_lower_case_and_starts_with_a_letter_or_digit() {
        for good in ["a", "0", "time-now_2.b", &"z".repeat(64)] {
            assert_eq!(
                good.parse::<ServiceName>().map(|t| t.to_string()),
                Ok(good.to_owned())
            );
        }
        for (bad, at) in [
            ("Ping", 0),
            (".", 0),
            ("..", 0),
            ("-a", 0),
            ("a/b", 1),
            ("a:b", 1),
        ] {
            assert_eq!(
                bad.parse::<ServiceName>(),
                Err(NameError::BadByte { at }),
                "{bad}"
            );
        }
        assert!("z".repeat(65).parse::<ServiceName>().is_err());
    }

    #[test]
    fn a_name_is_shown_as_it_is_and_debugged_in_quotes() {
        let service: ServiceName = "ping".parse().expect("valid");
        assert_eq!(
            (service.as_str(), format!("{service}")),
            ("ping", "ping".into())
        );
        assert_eq!(format!("{service:?}"), r#""ping""#);
        let room = Room::new(&service, "a:b c").expect("valid");
        assert_eq!((room.kind(), room.key()), (&service, "a:b c"));
        assert_eq!(room.to_string(), "ping:a:b c");
        assert_eq!(format!("{room:?}"), r#""ping:a:b c""#);
        assert_eq!(Room::from(&service).to_string(), "ping");
    }

    #[test]
    fn a_key_is_printable_ascii() {
        let kind: ServiceName = "chat".parse().expect("valid");
        for byte in 0..=0x7f_u8 {
            let key = char::from(byte).to_string();
            let expected = match byte {
                0x20..=0x7e => Ok(()),
                _ => Err(NameError::BadByte { at: 0 }),
            };
            assert_eq!(Room::new(&kind, &key).map(drop), expected, "{key:?}");
        }
        assert_eq!(
            Room::new(&kind, "a\u{e9}"),
            Err(NameError::BadByte { at: 1 })
        );
    }

    #[test]
    fn a_channel_has_at_most_255_bytes() {
        for (kind, longest) in [("z", 253), (&*"z".repeat(64), 190)] {
            let kind: ServiceName = kind.parse().expect("valid");
            let room = Room::new(&kind, &"k".repeat(longest)).expect("short enough");
            assert_eq!(room.to_string().len(), CHANNEL_BYTES_MAX);
            let error = NameError::TooLong {
                bytes: longest + 1,
                max: longest,
            };
            assert_eq!(Room::new(&kind, &"k".repeat(longest + 1)), Err(error));
        }
    }

    #[test]
    fn rooms_are_equal_by_kind_and_key() {
        let kind: ServiceName = "chat".parse().expect("valid");
        let other: ServiceName = "game".parse().expect("valid");
        let room = Room::new(&kind, "1").expect("valid");
        assert_eq!(room, room.clone());
        assert_eq!(room, Room::new(&kind, "1").expect("valid"));
        assert_ne!(room, Room::new(&kind, "2").expect("valid"));
        assert_ne!(room, Room::new(&other, "1").expect("valid"));
        let keyless = Room::new(&kind, "").expect("a key may be empty");
        let service = Room::from(&kind);
        assert_eq!((keyless.key(), service.key()), ("", ""));
        assert!(!keyless.is_service() && service.is_service());
        assert!(keyless != service && room != service && room != keyless);
        let shown = [&keyless, &service].map(Room::to_string);
        assert_eq!(shown, ["chat:", "chat"]);
    }
}
