//! How functions take their arguments: one by one, or in a struct that names them.

use crate::sources::{Breach, Source, assert_none, rust};

#[test]
fn no_parameter_is_a_tuple() {
    let mut breaches = Vec::new();
    for source in rust() {
        if source.path.starts_with("src/") || source.path.starts_with("bench/") {
            breaches.extend(tuples(&source));
        }
    }
    assert_none(
        &breaches,
        "take the parts one by one, or in a struct: a tuple names none of them, and hides from \
         `too-many-arguments-threshold` how many there are",
    );
}

/// The parameters of functions that are tuples, each with the line of its function.
fn tuples(source: &Source) -> Vec<Breach> {
    let lines: Vec<_> = source.code().map(|(_, line)| line).collect();
    let code = lines.join("\n");
    let mut breaches = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let line = code[..at].matches('\n').count() + 1;
        let found = parameters(&code[at..]).into_iter();
        let tuples = found.filter(|parameter| !is_word && is_tuple(parameter));
        breaches.extend(tuples.map(|parameter| source.breach(line, parameter)));
    }
    breaches
}

/// Whether the pattern or the type is a tuple, or a reference to one.
fn is_tuple(parameter: &str) -> bool {
    // In `proptest!` a parameter is drawn: `(a, b) in (0..9, 0..9)`.
    let is_drawn = parameter.contains(" in ");
    let starts = |text: &str| {
        let text = text.trim_start_matches([' ', '&', '\n']);
        let text = text.strip_prefix("mut ").unwrap_or(text);
        let group = text.strip_prefix('(').map(|_| parts(text));
        group.is_some_and(|parts| parts.len() > 1)
    };
    let (pattern, of) = parameter.split_once(": ").unwrap_or((parameter, ""));
    !is_drawn && (starts(pattern) || starts(of))
}

/// The parameters of the function that starts here; none where no list of them follows its name.
fn parameters(function: &str) -> Vec<&str> {
    let Some(open) = function.find(['(', '<']) else {
        return Vec::new();
    };
    let name = &function["fn ".len()..open];
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Vec::new();
    }
    if function[open..].starts_with('(') {
        return parts(&function[open..]);
    }
    let generics = length(&function[open..]);
    parts(&function[open + generics..])
}

/// The parts between the bracket at the start of the text and the one that closes it.
fn parts(text: &str) -> Vec<&str> {
    let inside = &text[1..length(text).max(2) - 1];
    let mut parts = Vec::new();
    let (mut rest, mut start) = (inside, 0);
    while start < rest.len() {
        let end = rest[start..].find([',', '(', '[', '{', '<']);
        match end.map(|end| start + end) {
            Some(end) if rest[end..].starts_with(',') => {
                parts.push(rest[..end].trim());
                (rest, start) = (&rest[end + 1..], 0);
            }
            Some(end) => start = end + length(&rest[end..]),
            None => break,
        }
    }
    parts.push(rest.trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The length of a bracketed group at the start of the text, its brackets included.
fn length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            // An arrow closes nothing.
            '>' if before == '-' || before == '=' => {}
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
        before = c;
    }
    text.len()
}

/// Checks the rule itself, on functions that break it and on functions that do not.
#[test]
fn a_tuple_is_found_wherever_it_is_a_parameter() {
    let found = |text: &str| {
        let path = "src/example.rs".to_owned();
        tuples(&Source {
            path,
            text: text.to_owned(),
        })
    };
    for broken in [
        "fn f((a, b): (A, B)) {}",
        "fn f((io, account): (&mut Io<S>, &mut Account)) {}",
        "pub fn f<S: Fn(A) -> B>(\n    &mut self,\n    (a, b): (A, B),\n) {}",
        "fn f(listed: (Arc<Map>, Key)) {}",
        "fn f(&(a, b): &(A, B), c: C) {}",
        "fn f(a: A, (b, c): Alias<'_>) {}",
    ] {
        assert_eq!(found(broken).len(), 1, "{broken}");
    }
    let second = found("fn f() {}\n\nasync fn g(a: A, b: (B, C)) {}");
    assert_eq!(second, ["src/example.rs:3: b: (B, C)"]);
    for sound in [
        "fn f(a: A, b: B) -> (A, B) {}",
        "fn f(a: &(dyn Any + Send), none: ()) {}",
        "fn f(each: impl Fn((A, B)) -> C, pairs: &[(A, B)], more: Vec<(A, B)>) {}",
        "let f = |(a, b): (A, B)| a;",
        "fn f((a, b) in (0..9, 0..9)) {}",
        "fn f(Point { x, y }: Point) {}",
        "// fn f((a, b): (A, B)) {}",
        "const F: fn(A, (B, C)) = f;",
    ] {
        assert_eq!(found(sound), Vec::<String>::new(), "{sound}");
    }
}
