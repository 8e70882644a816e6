//! The source of a value, and the precedence: flag, environment, file, default.

use std::collections::BTreeMap;
use std::fmt;

/// The source of a value; later variants take precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// No source gives the value.
    Default,
    /// From a line of the file.
    File {
        /// The path as it was given.
        path: String,
        /// The line number, from 1.
        line: usize,
    },
    /// From an environment variable with this name.
    Environment(String),
    /// From a flag with this name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The place of a value: its key and its section, such as `linger` in `service.ping`; the section
/// is "" at the top of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) section: String,
    pub(crate) key: &'static str,
}

impl Place {
    pub(crate) fn new(section: &str, key: &'static str) -> Self {
        let section = section.to_owned();
        Self { section, key }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.section.as_str() {
            "" => f.write_str(self.key),
            section => write!(f, "{section}.{}", self.key),
        }
    }
}

/// A value as text, with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// The values of one source, or of several sources combined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer(BTreeMap<Place, Given>);

impl Layer {
    pub(crate) fn set(&mut self, place: Place, given: Given) {
        self.0.insert(place, given);
    }

    /// Sets a value, or removes it.
    pub(crate) fn put(&mut self, place: Place, given: Option<Given>) {
        match given {
            Some(given) => self.set(place, given),
            None => drop(self.0.remove(&place)),
        }
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Given> {
        self.0.get(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Given)> {
        self.0.iter()
    }

    /// Combines this layer with another one, which takes precedence.
    pub(crate) fn under(mut self, over: Self) -> Self {
        self.0.extend(over.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_where_it_has_a_value() {
        let layer = |values: &[(&'static str, &str)]| {
            let mut layer = Layer::default();
            for (key, text) in values {
                let source = Source::Default;
                let text = (*text).to_owned();
                layer.set(Place::new("", key), Given { text, source });
            }
            layer
        };
        let lower = layer(&[("linger", "1s"), ("listen", "a:1")]);
        let upper = layer(&[("linger", "2s"), ("window", "3")]);
        let expected = layer(&[("linger", "2s"), ("listen", "a:1"), ("window", "3")]);
        assert_eq!(lower.under(upper), expected);
    }
}
