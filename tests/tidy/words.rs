//! What is in no source, and what is in each.

use crate::sources::{assert_none, library, numbered, rust, tree, without_comments};

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
