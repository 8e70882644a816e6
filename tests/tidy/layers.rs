//! Which module knows which, and who knows the world outside.

use crate::sources::{Breach, Source, assert_none, library, without_comments};

/// Modules from the ground up; those on one line know nothing of each other.
const LAYERS: &[&[&str]] = &[
    &["cases", "planted"],
    &["client", "instant", "sync"],
    &["histogram", "shards", "wakes"],
    &["limits"],
    &["metrics", "refusal", "rt", "scratch", "wire"],
    &["bus"],
    &["admission", "fan_out", "presence"],
    &["caller", "service"],
    &["registry"],
    &["app"],
    &["api", "session"],
    &["server"],
];

/// Pairs that know nothing of each other although one is above the other.
const STRANGERS: &[(&str, &str)] = &[("bus", "rt")];

/// The files that may name tokio, axum and hyper: the shell.
const SHELL: &[&str] = &[
    "src/server/",
    "src/rt/reactor",
    "src/rt/tokio.rs",
    "src/rt/event_loop.rs",
    "src/cli/main.rs",
    "src/cli/reload.rs",
    "src/cli/signals.rs",
    "src/cli/threads.rs",
];

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

pub(crate) fn first_name(path: &str) -> &str {
    let path = path.trim();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

#[test]
fn a_module_of_the_bus_imports_only_those_declared_before_it() {
    let sources = library();
    let root = sources
        .iter()
        .find(|source| source.path == "src/bus/mod.rs");
    let modules: Vec<_> = root
        .into_iter()
        .flat_map(Source::code)
        .filter_map(|(_, line)| {
            let declared = line.trim_start_matches("pub ").strip_prefix("mod ")?;
            declared.strip_suffix(';')
        })
        .collect();
    assert!(modules.len() > 10, "{modules:?}");
    let breaches: Vec<_> = sources
        .iter()
        .flat_map(|source| imports_of_later(source, &modules))
        .collect();
    assert_none(
        &breaches,
        "move the item down, or the declaration in `src/bus/mod.rs` up",
    );
}

fn imports_of_later(source: &Source, modules: &[&str]) -> Vec<Breach> {
    let Some(inside) = source.path.strip_prefix("src/bus/") else {
        return Vec::new();
    };
    let position = |name: &str| modules.iter().position(|module| *module == name);
    let own = inside.split('/').next().unwrap_or(inside);
    let Some(own) = position(own.trim_end_matches(".rs")) else {
        return Vec::new();
    };
    // Within a folder of its own `super` is its parent.
    let prefix = if inside.contains('/') {
        "crate::bus::"
    } else {
        "super::"
    };
    let mut breaches = Vec::new();
    for (number, line) in without_comments(source.product()) {
        let mut names = line.split(prefix).skip(1).map(first_name);
        if let Some(later) = names.find(|name| position(name).is_some_and(|other| other > own)) {
            breaches.push(source.breach(number, &format!("`{later}` comes later")));
        }
    }
    breaches
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
    if source.path == "src/sync/mod.rs" {
        return Vec::new();
    }
    // A model imports loom itself: that is what it runs in.
    let lines = without_comments(source.product());
    let is_foreign = |line: &str| {
        let of_std = line.split("std::sync::").skip(1);
        let lock = of_std
            .map(first_name)
            .any(|name| name != "Arc" && name != "Weak");
        lock || names_crate(line, "loom") || names_crate(line, "parking_lot")
    };
    source.breaches(lines, is_foreign).collect()
}
