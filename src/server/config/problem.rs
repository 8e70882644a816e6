//! What is wrong with a configuration: each with its place and with what is allowed there.

use super::source::{Place, Source};
use crate::server::{RootsError, TlsError};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// Two values do not go together, or a running server cannot change them.
    #[error("{0}")]
    Conflict(&'static str),
    /// There is no such key any more.
    #[error("{at}: `{place}` is gone: {hint}")]
    Gone {
        /// Where it is.
        at: Source,
        /// The key.
        place: Place,
        /// What to do instead.
        hint: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot use {path}: {error}")]
    Read {
        /// The file as it was given.
        path: String,
        /// What the system said.
        error: String,
    },
    /// Whom to trust.
    #[error(transparent)]
    Roots(RootsError),
    /// The file is no TOML.
    #[error("{at}: {error}")]
    Syntax {
        /// Where reading stopped.
        at: Source,
        /// What is wrong there.
        error: String,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(TlsError),
    /// It would be listened on twice.
    #[error("`{address}` is given twice, in `listen` or as `admin`: listen once on each address")]
    Twice {
        /// The second one.
        address: String,
    },
    /// There is no such key or section.
    #[error("{at}: there is no `{name}` here{}; there is {}", near(name, there), there.join(", "))]
    Unknown {
        /// Where it is.
        at: Source,
        /// What was written.
        name: String,
        /// What there is.
        there: Vec<&'static str>,
    },
    /// The value is not written as it should be.
    #[error("{at}: `{place}` is {found}, but it is {allowed}, written as {written}")]
    Type {
        /// The key.
        place: Place,
        /// Where it is.
        at: Source,
        /// What was written: a kind.
        found: &'static str,
        /// What is allowed.
        allowed: String,
        /// What should have been written: a kind.
        written: &'static str,
    },
    /// The value is not allowed.
    #[error("{at}: `{place}` is not allowed{}; it is {allowed}", said(error))]
    Value {
        /// The key.
        place: Place,
        /// Where its value is from.
        at: Source,
        /// What is allowed.
        allowed: String,
        /// What is wrong, or nothing more than that.
        error: String,
    },
}

/// All that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// Each of them, as a line.
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

/// The one of those there are that was probably meant.
pub(super) fn near(name: &str, there: &[&str]) -> String {
    let nearest = there.iter().min_by_key(|known| distance(name, known));
    match nearest {
        Some(known) if distance(name, known) <= 2 => format!(", did you mean `{known}`?"),
        Some(_) | None => String::new(),
    }
}

/// How many letters one must add, take away or replace to make one word of the other.
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
