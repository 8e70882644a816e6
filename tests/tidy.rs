//! The tree is as the architecture says: each rule reads the sources and says what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the ground up; those on one line know nothing of each other.
const LAYERS: &[&[&str]] = &[
    &["cases", "planted"],
    &["address", "identity", "instant", "origin", "sync"],
    &["histogram", "shards", "wakes"],
    &["limits", "peer"],
    &["backlog", "metrics", "permits", "rt", "scratch", "wire"],
    &["bucket", "bus"],
    &["authorize", "fan", "pacing"],
    &["service"],
    &["registry"],
    &["app"],
    &["session"],
    &["server"],
];

/// Pairs that know nothing of each other although one is above the other.
const STRANGERS: &[(&str, &str)] = &[("bus", "rt")];

/// The files that may name tokio, axum and hyper: the shell.
const SHELL: &[&str] = &[
    "src/server/",
    "src/rt/reactor",
    "src/rt/tokio.rs",
    "src/rt/turn.rs",
    "src/main.rs",
    "src/reload.rs",
    "src/signals.rs",
    "src/threads.rs",
];

/// The files of the binary, and the root of the library.
const BINARY: &[&str] = &[
    "bench",
    "greeting",
    "lib",
    "logs",
    "main",
    "notify",
    "operators",
    "reload",
    "signals",
    "threads",
    "trim",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 15;
const COLUMNS_MAX: usize = 100;

/// A text file of the tree.
struct Source {
    /// From the root of the package, with `/`.
    path: String,
    text: String,
}

/// One line that breaks a rule.
type Breach = String;

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is tests.
    fn is_test(&self) -> bool {
        let mut parts = self.path.trim_end_matches(".rs").split('/');
        parts.any(|part| part == "tests" || part == "models")
    }

    /// Numbered lines up to the inline tests, which come last.
    fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let modules = ["\nmod tests {", "\nmod models {"];
        // They begin with when they are compiled.
        let inline = modules.into_iter().filter_map(|module| {
            let before = &self.text[..self.text.find(module)?];
            before.rfind("\n#[cfg(")
        });
        let end = inline.min().unwrap_or(self.text.len());
        let end = if self.is_test() { 0 } else { end };
        numbered(&self.text[..end])
    }

    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        without_comments(numbered(&self.text))
    }

    fn breach(&self, line: usize, what: &str) -> Breach {
        format!("{}:{line}: {what}", self.path)
    }

    /// The module of the library this file belongs to; none for `lib.rs` and the binary.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (!BINARY.contains(&module)).then_some(module)
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

fn without_comments<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> impl Iterator<Item = (usize, &'a str)> {
    lines.map(|(number, line)| {
        let starts = line.trim_start().starts_with("//");
        let code = if starts { "" } else { line };
        (number, code.split(" // ").next().unwrap_or(code))
    })
}

/// Every text file of the package, in the order of their paths.
fn tree() -> Vec<Source> {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let mut files = Vec::new();
    collect(Path::new(&root), &mut files);
    files.sort();
    let source = |path: PathBuf| {
        // What is no text is not for these rules.
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(&root).expect("it is inside");
        let path = path.to_string_lossy().replace('\\', "/");
        Some(Source { path, text })
    };
    let sources: Vec<_> = files.into_iter().filter_map(source).collect();
    assert!(sources.len() > 50, "the tree was not found in {root}");
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let foreign = ["target", ".git", "corpus", "artifacts"].contains(&name.as_ref());
        if path.is_dir() && !foreign {
            collect(&path, files);
        } else if path.is_file() && !foreign {
            files.push(path);
        }
    }
}

fn rust() -> Vec<Source> {
    let all = tree().into_iter();
    all.filter(Source::is_rust).collect()
}

fn library() -> Vec<Source> {
    let all = rust().into_iter();
    all.filter(|source| source.path.starts_with("src/"))
        .collect()
}

#[track_caller]
fn assert_none(breaches: &[Breach], do_this: &str) {
    assert!(breaches.is_empty(), "{do_this}:\n{}", breaches.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let breaches: Vec<_> = library().iter().flat_map(upward_imports).collect();
    assert_none(
        &breaches,
        "a module imports only what is below it: move the item down, or hand it in",
    );
}

fn upward_imports(source: &Source) -> Vec<Breach> {
    let Some(module) = source.module() else {
        return Vec::new();
    };
    let Some(own) = layer(module) else {
        return vec![source.breach(1, "this module has no place yet: add it to LAYERS")];
    };
    let mut breaches = Vec::new();
    for (number, line) in source.code() {
        for name in crate_paths(line) {
            let strangers =
                STRANGERS.contains(&(module, name)) || STRANGERS.contains(&(name, module));
            let below = layer(name).is_some_and(|other| other < own);
            if name != module && (strangers || !below) {
                let what = format!("`{module}` must not know `{name}`");
                breaches.push(source.breach(number, &what));
            }
        }
        let is_root = source.path.split('/').count() == 2 || source.path.ends_with("/mod.rs");
        if is_root && line.starts_with("use super::") {
            breaches.push(source.breach(number, "write `crate::`, so that this rule sees it"));
        }
    }
    breaches
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The first names of the paths that start at the crate's root.
fn crate_paths(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for after in line.split("crate::").skip(1) {
        let group = after
            .strip_prefix('{')
            .and_then(|group| group.split('}').next());
        match group {
            Some(group) => names.extend(group.split(',').map(first_name)),
            None => names.push(first_name(after)),
        }
    }
    names
}

fn first_name(path: &str) -> &str {
    let path = path.trim();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

#[test]
fn only_the_shell_names_tokio_axum_and_hyper() {
    let breaches: Vec<_> = library().iter().flat_map(shell_names).collect();
    assert_none(
        &breaches,
        "the core runs on any runtime: ask `rt`, or move the code to src/server/",
    );
}

fn shell_names(source: &Source) -> Vec<Breach> {
    if SHELL.iter().any(|shell| source.path.starts_with(shell)) {
        return Vec::new();
    }
    let crates = [
        "tokio",
        "tokio_util",
        "axum",
        "hyper",
        "hyper_util",
        "http_body_util",
    ];
    let mut breaches = Vec::new();
    for (number, line) in source.code() {
        for name in crates {
            if names_crate(line, name) {
                breaches.push(source.breach(number, name));
            }
        }
    }
    breaches
}

/// Whether a path of the line starts at this crate; `self::tokio` is a module of ours.
fn names_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].trim_end_matches("::");
        let is_ours = before.ends_with("self") || before.ends_with("super");
        let is_longer = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        !is_ours && !is_longer
    })
}

#[test]
fn locks_and_atomics_come_from_sync() {
    let breaches: Vec<_> = library().iter().flat_map(foreign_locks).collect();
    assert_none(
        &breaches,
        "import locks and atomics from `crate::sync`, so that loom sees them",
    );
}

fn foreign_locks(source: &Source) -> Vec<Breach> {
    if source.path == "src/sync.rs" {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    // A model imports loom itself: that is what it runs in.
    for (number, line) in without_comments(source.product()) {
        let of_std = line.split("std::sync::").skip(1);
        let lock = of_std
            .map(first_name)
            .any(|name| name != "Arc" && name != "Weak");
        if lock || names_crate(line, "loom") || names_crate(line, "parking_lot") {
            breaches.push(source.breach(number, line.trim()));
        }
    }
    breaches
}

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
fn sources_are_ascii() {
    let mut breaches = Vec::new();
    for source in rust() {
        for (number, line) in numbered(&source.text) {
            if !line.is_ascii() {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    assert_none(
        &breaches,
        "write ASCII; in a string write an escape such as \\u{e9}",
    );
}

#[test]
fn lines_fit_on_the_screen() {
    let mut breaches = Vec::new();
    for source in rust() {
        for (number, line) in numbered(&source.text) {
            if line.chars().count() > COLUMNS_MAX {
                breaches.push(source.breach(number, "too long"));
            }
        }
    }
    assert_none(
        &breaches,
        "wrap lines of more than 100 columns; `cargo fmt` leaves strings and comments",
    );
}

#[test]
fn nothing_is_left_to_do() {
    let left = [
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut breaches = Vec::new();
    for source in rust() {
        for (number, line) in source.code() {
            if left.iter().any(|left| line.contains(left)) {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    assert_none(
        &breaches,
        "finish it, or take it out: what is left to do belongs into an issue",
    );
}

#[test]
fn nothing_is_unsafe_but_one_call_of_the_binary() {
    let mut breaches = Vec::new();
    let product = library()
        .into_iter()
        .filter(|source| source.path != "src/trim.rs");
    for source in product {
        for (number, line) in source.code() {
            if line.contains("unsafe ") || line.contains("unsafe{") {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    let forbidden = library().iter().any(|source| {
        source.path == "src/lib.rs" && source.text.contains("#![forbid(unsafe_code)]")
    });
    assert!(forbidden, "src/lib.rs must forbid unsafe code");
    assert_none(
        &breaches,
        "there is a safe way; nothing here is worth an unsafe one",
    );
}

#[test]
fn nothing_is_unwrapped() {
    let mut breaches = Vec::new();
    for source in library() {
        for (number, line) in without_comments(source.product()) {
            if line.contains(".unwrap()") {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    assert_none(
        &breaches,
        "say why it cannot happen: `.expect(\"...\")`; or return the error",
    );
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let sleeps = [concat!("thread::", "sleep"), concat!("time::", "sleep")];
    let mut breaches = Vec::new();
    for source in rust() {
        let in_tests = source.path.starts_with("tests/") || source.is_test();
        if !in_tests {
            continue;
        }
        for (number, line) in source.code() {
            if sleeps.iter().any(|sleep| line.contains(sleep)) {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    assert_none(
        &breaches,
        "wait for what the time was meant to bring: a frame, an end, a counter",
    );
}

#[test]
fn every_file_says_what_it_is() {
    let mut breaches = Vec::new();
    for source in rust() {
        let doc = source
            .text
            .lines()
            .map_while(|line| line.strip_prefix("//!"));
        let paragraph: Vec<_> = doc
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let ends = paragraph
            .last()
            .is_some_and(|line| line.ends_with(['.', ':']));
        if !ends {
            breaches.push(source.breach(1, "no sentence"));
        }
    }
    assert_none(
        &breaches,
        "start the file with a `//!` sentence that would fit the tree's listing",
    );
}

#[test]
fn the_readme_counts_the_deliberate_bugs() {
    let tree = tree();
    let text = |path: &str| {
        let source = tree.iter().find(|source| source.path == path);
        source.map_or_else(|| panic!("there is no {path}"), |source| &source.text)
    };
    let bugs = text("sim/tests/planted.rs").lines();
    let count = bugs
        .filter(|line| line.starts_with("    found(Bug::"))
        .count();
    let told = format!("| {count} deliberate bugs,");
    assert!(
        text("README.md").contains(&told),
        "README.md is to say {told:?}"
    );
}

#[test]
fn deliberate_bugs_are_compiled_for_the_simulator_alone() {
    let manifests = ["Cargo.toml", "sim/Cargo.toml", "fuzz/Cargo.toml"];
    let mut breaches = Vec::new();
    for source in tree() {
        if !manifests.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in numbered(&source.text) {
            let code = line.split('#').next().unwrap_or(line);
            let allowed = match source.path.as_str() {
                // It is off, turns nothing on, and nothing turns it on.
                "Cargo.toml" => ["planted = []", ""],
                // Of the same name, and for the one test that is built with it.
                "sim/Cargo.toml" => [
                    "planted = [\"busline/planted\"]",
                    "required-features = [\"planted\"]",
                ],
                _ => ["", ""],
            };
            let names = code.contains("planted") && code.trim() != "name = \"planted\"";
            if names && !allowed.contains(&code.trim()) {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    let declared = tree()
        .iter()
        .any(|source| source.path == "Cargo.toml" && source.text.contains("\nplanted = []\n"));
    assert!(declared, "the feature is declared, and turns nothing on");
    assert_none(
        &breaches,
        "the feature `planted` is for the simulator's own test: no other feature has it",
    );
}

#[test]
fn nothing_is_half_merged() {
    let markers = ["<", "=", ">"].map(|sign| sign.repeat(7));
    let mut breaches = Vec::new();
    for source in tree() {
        for (number, line) in numbered(&source.text) {
            let word = line.split(' ').next().unwrap_or_default();
            if markers.iter().any(|marker| marker == word) {
                breaches.push(source.breach(number, word));
            }
        }
    }
    assert_none(&breaches, "finish the merge");
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    let homes = ["home", "root", "work", "Users"].map(|home| format!("/{home}/"));
    let mut breaches = Vec::new();
    for source in tree() {
        for (number, line) in numbered(&source.text) {
            if homes.iter().any(|home| starts_path(line, home)) {
                breaches.push(source.breach(number, line.trim()));
            }
        }
    }
    assert_none(&breaches, "write the path from the root of the repository");
}

/// Whether an absolute path in the line starts like this; a part of a longer path does not.
fn starts_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"-_.".contains(before))
    })
}
