//! What is in no source, and what is in each.

use crate::sources::{assert_none, library, numbered, rust, tree, without_comments};

#[test]
fn sources_are_ascii() {
    let mut breaches = Vec::new();
    for source in rust() {
        breaches.extend(source.breaches(numbered(&source.text), |line| !line.is_ascii()));
    }
    assert_none(
        &breaches,
        "write ASCII; in a string write an escape such as \\u{e9}",
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
        let is_left = |line: &str| left.iter().any(|left| line.contains(left));
        breaches.extend(source.breaches(source.code(), is_left));
    }
    assert_none(
        &breaches,
        "finish it, or take it out: what is left to do belongs into an issue",
    );
}

#[test]
fn nothing_is_unsafe_but_one_call_of_the_binary() {
    let mut breaches = Vec::new();
    let is_unsafe = |line: &str| line.contains("unsafe ") || line.contains("unsafe{");
    let library = library();
    for source in &library {
        if source.path != "src/cli/trim.rs" {
            breaches.extend(source.breaches(source.code(), is_unsafe));
        }
    }
    let forbidden = library.iter().any(|source| {
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
        let lines = without_comments(source.product());
        breaches.extend(source.breaches(lines, |line| line.contains(".unwrap()")));
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
        if source.path.starts_with("tests/") || source.is_test() {
            let sleeps = |line: &str| sleeps.iter().any(|sleep| line.contains(sleep));
            breaches.extend(source.breaches(source.code(), sleeps));
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
        let is_marked = |line: &str| {
            let word = line.split(' ').next();
            markers.iter().any(|marker| word == Some(marker))
        };
        breaches.extend(source.breaches(numbered(&source.text), is_marked));
    }
    assert_none(&breaches, "finish the merge");
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    let homes = ["home", "root", "work", "Users"].map(|home| format!("/{home}/"));
    let mut breaches = Vec::new();
    for source in tree() {
        let has_home = |line: &str| homes.iter().any(|home| starts_path(line, home));
        breaches.extend(source.breaches(numbered(&source.text), has_home));
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
