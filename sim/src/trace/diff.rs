//! Where two traces part.

use std::fmt;

use super::Trace;

/// Lines before the first difference that are shown with it.
const CONTEXT_LINES: usize = 3;

/// The first line in which two traces differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of the line, from 1.
    pub line: usize,
    /// The lines before it, which both have.
    pub before: Vec<String>,
    /// The line of the first trace, unless that has ended.
    pub left: Option<String>,
    /// The line of the second trace, unless that has ended.
    pub right: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the traces differ from line {} on:", self.line)?;
        for line in &self.before {
            writeln!(f, "  {line}")?;
        }
        let end = "(the trace has ended)";
        writeln!(f, "- {}", self.left.as_deref().unwrap_or(end))?;
        write!(f, "+ {}", self.right.as_deref().unwrap_or(end))
    }
}

/// The first difference of two traces, if there is one.
pub fn diff(left: &Trace, right: &Trace) -> Option<Difference> {
    diff_lines(left.lines(), right.lines())
}

/// The first difference of two traces that were written, if there is one.
pub fn diff_lines(
    left: impl IntoIterator<Item = String>,
    right: impl IntoIterator<Item = String>,
) -> Option<Difference> {
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let mut before: Vec<String> = Vec::new();
    for line in 1.. {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (Some(left), Some(right)) if left == right => {
                if before.len() == CONTEXT_LINES {
                    before.remove(0);
                }
                before.push(left);
            }
            (left, right) => {
                return Some(Difference {
                    line,
                    before,
                    left,
                    right,
                });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(diff_lines(lines("abc"), lines("abc")), None);
        assert_eq!(diff_lines(lines(""), lines("")), None);
    }

    #[test]
    fn the_first_difference_comes_with_the_lines_before_it() {
        let difference = diff_lines(lines("abcdX"), lines("abcdYZ")).expect("they differ");
        assert_eq!((difference.line, &difference.before), (5, &lines("bcd")));
        assert!(difference.to_string().ends_with("- X\n+ Y"));
    }

    #[test]
    fn a_trace_that_ends_early_differs_there() {
        let difference = diff_lines(lines("a"), lines("ab")).expect("they differ");
        assert_eq!((difference.line, difference.left), (2, None));
        assert_eq!(difference.right.as_deref(), Some("b"));
    }
}
