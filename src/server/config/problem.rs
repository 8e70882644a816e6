//! The problems of a configuration, each with its place and the allowed values.

use super::source::{Place, Source};
use crate::server::{RootsError, TlsError};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// A key of the API is not usable.
    #[error("{at}: a key of the API: {error}")]
    ApiKey {
        /// The position of the key.
        at: Source,
        /// The reason.
        error: String,
    },
    /// Two values contradict each other, or a running server cannot change them.
    #[error("{0}")]
    Conflict(&'static str),
    /// The key was removed.
    #[error("{at}: `{place}` is gone: {hint}")]
    Gone {
        /// The source of the value.
        at: Source,
        /// The key.
        place: Place,
        /// The setting to use instead.
        hint: &'static str,
    },
    /// The name of a kind of rooms is not allowed.
    #[error("{at}: `{name}` is no name for rooms: {error}")]
    Kind {
        /// The position of the name.
        at: Source,
        /// The name in the file.
        name: String,
        /// The reason.
        error: String,
    },
    /// The policy of a service or of a kind of rooms contradicts itself.
    #[error("[{section}]: {fault}")]
    Policy {
        /// The section.
        section: String,
        /// The fault.
        fault: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot use {path}: {error}")]
    Read {
        /// The path as it was given.
        path: String,
        /// The error.
        error: String,
    },
    /// The root certificates are not usable.
    #[error(transparent)]
    Roots(RootsError),
    /// The file is not valid TOML.
    #[error("{at}: {error}")]
    Syntax {
        /// The position of the error.
        at: Source,
        /// The error.
        error: String,
    },
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Tls(TlsError),
    /// An address is given twice.
    #[error(
        "`{address}` is given twice, in `listen`, as `admin` or as `api.listen`: \
         listen once on each address"
    )]
    Twice {
        /// The second address.
        address: String,
    },
    /// The key or the section does not exist.
    #[error("{at}: there is no `{name}` here{}; there is {}", near(name, there), there.join(", "))]
    Unknown {
        /// The position of the name.
        at: Source,
        /// The name in the file.
        name: String,
        /// The names that exist.
        there: Vec<&'static str>,
    },
    /// The value has the wrong TOML type.
    #[error("{at}: `{place}` is {found}, but it is {allowed}, written as {written}")]
    Type {
        /// The key.
        place: Place,
        /// The source of the value.
        at: Source,
        /// The type of the value.
        found: &'static str,
        /// The allowed values.
        allowed: String,
        /// The expected type.
        written: &'static str,
    },
    /// The value is not allowed.
    #[error("{at}: `{place}` is not allowed{}; it is {allowed}", said(error))]
    Value {
        /// The key.
        place: Place,
        /// The source of the value.
        at: Source,
        /// The allowed values.
        allowed: String,
        /// Details, or the empty text.
        error: String,
    },
}

/// All problems, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// The problems, each as a line.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn said(error: &str) -> String {
    if error.is_empty() {
        String::new()
    } else {
        format!(" ({error})")
    }
}

/// A suggestion for a misspelt name; empty if no known name is similar.
pub(super) fn near(name: &str, there: &[&str]) -> String {
    let nearest = there.iter().min_by_key(|known| distance(name, known));
    match nearest {
        Some(known) if distance(name, known) <= 2 => format!(", did you mean `{known}`?"),
        Some(_) | None => String::new(),
    }
}

/// The edit distance of two words: the number of letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_letters_that_differ() {
        for (a, b, letters) in [
            ("", "", 0),
            ("", "abc", 3),
            ("window", "window", 0),
            ("windw", "window", 1),
            ("wimdows", "window", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
            assert_eq!(distance(b, a), letters, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(
            near("windw", &["linger", "window"]),
            ", did you mean `window`?"
        );
        assert_eq!(near("colour", &["linger", "window"]), "");
    }
}
