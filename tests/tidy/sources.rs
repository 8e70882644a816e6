//! The sources of the tree, as the rules read them.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the binary, and the root of the library.
const BINARY: &[&str] = &["cli", "lib"];

/// A text file of the tree.
pub(crate) struct Source {
    /// From the root of the package, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One line that breaks a rule.
pub(crate) type Breach = String;

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is tests.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.trim_end_matches(".rs").split('/');
        parts.any(|part| part == "tests" || part == "models")
    }

    /// Numbered lines up to the inline tests, which come last.
    pub(crate) fn product(&self) -> impl Iterator<Item = (usize, &str)> {
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
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        without_comments(numbered(&self.text))
    }

    /// One for each of these lines that is wrong.
    pub(crate) fn breaches<'a>(
        &'a self,
        lines: impl Iterator<Item = (usize, &'a str)>,
        is_wrong: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = Breach> {
        let wrong = lines.filter(move |(_, line)| is_wrong(line));
        wrong.map(|(number, line)| self.breach(number, line.trim()))
    }

    pub(crate) fn breach(&self, line: usize, what: &str) -> Breach {
        format!("{}:{line}: {what}", self.path)
    }

    /// The module of the library this file belongs to; none for `lib.rs` and the binary.
    pub(crate) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (!BINARY.contains(&module)).then_some(module)
    }
}

pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

pub(crate) fn without_comments<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> impl Iterator<Item = (usize, &'a str)> {
    lines.map(|(number, line)| {
        let starts = line.trim_start().starts_with("//");
        let code = if starts { "" } else { line };
        (number, code.split(" // ").next().unwrap_or(code))
    })
}

/// Every text file of the package, in the order of their paths.
pub(crate) fn tree() -> Vec<Source> {
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

pub(crate) fn rust() -> Vec<Source> {
    let all = tree().into_iter();
    all.filter(Source::is_rust).collect()
}

pub(crate) fn library() -> Vec<Source> {
    let all = rust().into_iter();
    all.filter(|source| source.path.starts_with("src/"))
        .collect()
}

#[track_caller]
pub(crate) fn assert_none(breaches: &[Breach], do_this: &str) {
    assert!(breaches.is_empty(), "{do_this}:\n{}", breaches.join("\n"));
}
