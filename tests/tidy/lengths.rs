//! How long files, functions and lines may be.

use crate::sources::{assert_none, library, numbered, rust};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 15;
const COLUMNS_MAX: usize = 100;

#[test]
fn no_file_is_too_long() {
    let mut breaches = Vec::new();
    for source in library() {
        let lines = source.product().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}: {lines} lines", source.path));
        }
    }
    let do_this = format!("split a file of more than {FILE_LINES_MAX} lines: one concept per file");
    assert_none(&breaches, &do_this);
}

#[test]
fn no_function_is_too_long() {
    let mut breaches = Vec::new();
    for source in library() {
        for (number, lines) in functions(source.product()) {
            if lines > FUNCTION_LINES_MAX {
                breaches.push(source.breach(number, &format!("{lines} lines")));
            }
        }
    }
    let do_this = format!("split a function of more than {FUNCTION_LINES_MAX} lines");
    assert_none(&breaches, &do_this);
}

#[test]
fn most_functions_are_short() {
    let mut lengths = Vec::new();
    for source in library() {
        lengths.extend(functions(source.product()).map(|(_, lines)| lines));
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(
        median <= FUNCTION_LINES_MEDIAN_MAX,
        "half of the functions have more than {FUNCTION_LINES_MEDIAN_MAX} lines ({median}): \
         look for control flow that belongs into the caller and leaves that can be pure",
    );
}

/// Where each function starts and how many lines it has, up to the brace at its own indent.
fn functions<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> impl Iterator<Item = (usize, usize)> {
    let mut open: Vec<(usize, usize)> = Vec::new();
    lines.filter_map(move |(number, line)| {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if is_function(code) && !code.ends_with([';', '}']) {
            open.push((indent, number));
        }
        let declared = code.ends_with(';') && code.starts_with(')');
        let ends = code == "}" || code == "})" || declared;
        let closes = ends && open.last().is_some_and(|(own, _)| *own == indent);
        let (_, start) = closes.then(|| open.pop()).flatten()?;
        (!declared).then_some((start, number + 1 - start))
    })
}

fn is_function(code: &str) -> bool {
    let words = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
    ];
    let mut rest = code.split(' ').skip_while(|word| words.contains(word));
    rest.next() == Some("fn")
}

#[test]
fn lines_fit_on_the_screen() {
    let mut breaches = Vec::new();
    for source in rust() {
        let is_long = |line: &str| line.chars().count() > COLUMNS_MAX;
        breaches.extend(source.breaches(numbered(&source.text), is_long));
    }
    assert_none(
        &breaches,
        "wrap lines of more than 100 columns; `cargo fmt` leaves strings and comments",
    );
}
