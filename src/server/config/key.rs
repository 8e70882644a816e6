//! A key of the configuration, declared in one line together with the field for its value.

use super::problem::Problem;
use super::source::{Given, Layer, Place, Source};
use super::value::{Kind, Value};

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) default: &'static str,
    pub(super) change: Change,
    pub(super) kind: Kind,
    pub(super) placeholder: &'static str,
    pub(super) allowed: fn() -> String,
}

/// When a changed value takes effect, and whether it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// At once, for later events.
    Live,
    /// At once; the value is never shown.
    Secret,
    /// At the next start of the server.
    Start,
}

/// A struct whose fields are keys.
pub(super) trait Keys: Sized {
    const KEYS: &'static [Key];

    /// Reads all keys; the reader collects the errors.
    fn read(reader: &mut Reader<'_>) -> Self;
}

/// Declares a struct and the table of its keys.
///
/// A line consists of the help, the name, the type, the default, and when a change takes effect.
macro_rules! keys {
    (
        $(#[$meta:meta])*
        pub(crate) struct $name:ident {
            $($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:expr, $change:ident;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $help])+ pub(crate) $key: $type,)*
        }

        impl $crate::server::config::key::Keys for $name {
            const KEYS: &'static [$crate::server::config::key::Key] = &[
                $($crate::server::config::key::Key {
                    name: stringify!($key),
                    help: concat!($($help),+),
                    default: $default,
                    change: $crate::server::config::key::Change::$change,
                    kind: <$type as $crate::server::config::value::Value>::KIND,
                    placeholder: <$type as $crate::server::config::value::Value>::PLACEHOLDER,
                    allowed: <$type as $crate::server::config::value::Value>::allowed,
                },)*
            ];

            fn read(reader: &mut $crate::server::config::key::Reader<'_>) -> Self {
                Self { $($key: reader.read(stringify!($key), $default),)* }
            }
        }
    };
}

pub(super) use keys;

/// Reads the values of one section.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    layer: &'a Layer,
    /// The section, and below it the section for keys that are missing in the first.
    section: &'a str,
    otherwise: Option<&'a str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layer: &'a Layer, section: &'a str, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            layer,
            section,
            otherwise: None,
            problems,
        }
    }

    /// Reads values that this section lacks from another section.
    pub(super) fn or(self, section: &'a str) -> Self {
        let otherwise = Some(section);
        Self { otherwise, ..self }
    }

    /// Reads the value of a key; for an invalid value, adds a problem and returns the default.
    pub(super) fn read<T: Value>(&mut self, key: &'static str, default: &'static str) -> T {
        let given = self.given(key);
        let text = given.map_or(default, |given| given.text.as_str());
        match T::read(text) {
            Ok(value) => value,
            // The other section reports its own invalid values.
            Err(_) if !self.is_own(key) => T::read(default).unwrap_or_else(|_| bad_default(key)),
            Err(error) => {
                let at = given.map_or(Source::Default, |given| given.source.clone());
                let place = Place::new(self.section, key);
                self.problems.push(Problem::Value {
                    place,
                    at,
                    allowed: T::allowed(),
                    error,
                });
                T::read(default).unwrap_or_else(|_| bad_default(key))
            }
        }
    }

    /// Whether the value of a key comes from this section, or from no section.
    fn is_own(&self, key: &'static str) -> bool {
        self.otherwise.is_none() || self.layer.get(&Place::new(self.section, key)).is_some()
    }

    fn given(&self, key: &'static str) -> Option<&'a Given> {
        let own = self.layer.get(&Place::new(self.section, key));
        own.or_else(|| self.layer.get(&Place::new(self.otherwise?, key)))
    }
}

fn bad_default<T>(key: &str) -> T {
    unreachable!("the default of `{key}` is not allowed")
}
