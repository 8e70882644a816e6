//! Where a value comes from, and which of several wins: flag, environment, file, default.

use std::collections::BTreeMap;
use std::fmt;

/// Where a value was given; each beats those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere.
    Default,
    /// On a line of the file.
    File {
        /// The file as it was given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// In this variable of the environment.
    Environment(String),
    /// With this flag.
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

/// The place of a value: `linger` in the section `service.ping`, or in none, which is "".
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

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// What one source gives, or several once they are laid over each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer(BTreeMap<Place, Given>);

impl Layer {
    pub(crate) fn set(&mut self, place: Place, given: Given) {
        self.0.insert(place, given);
    }

    /// Sets a value, or takes it away.
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

    /// This layer with another one over it.
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
