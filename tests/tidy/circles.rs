//! Which file of a folder imports which: no import leads back to where it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use crate::layers::first_name;
use crate::sources::{Breach, Source, assert_none, library, without_comments};

/// An import that closes a circle and stays, with the reason.
struct Left {
    folder: &'static str,
    from: &'static str,
    to: &'static str,
    /// One sentence.
    reason: &'static str,
}

const LEFT: &[Left] = &[
    Left {
        folder: "registry",
        from: "entry",
        to: "kind",
        reason: "A kind makes its rooms and finds them by key, and a room that is over removes \
                 itself from its kind and adds its figures to those of the kind: each holds the \
                 other.",
    },
    Left {
        folder: "wire",
        from: "frame_pool",
        to: "frames",
        reason: "A block of the pool keeps other encodings of its frames, which lie in blocks: \
                 neither type can be written without the other.",
    },
];

#[test]
fn no_imports_of_a_folder_are_a_circle() {
    let sources = library();
    let files: Vec<_> = sources.iter().map(File::of).collect();
    let mut imports = imports(&files);
    assert!(imports.len() > 300, "the imports were not found");
    for left in LEFT {
        let before = imports.len();
        imports.retain(|import| !import.is(left));
        let Left {
            folder,
            from,
            to,
            reason,
        } = left;
        assert!(
            imports.len() < before,
            "{folder}: {from} imports {to} no more"
        );
        assert!(reason.ends_with('.'), "{reason}");
    }
    assert_none(
        &circles(&imports),
        "move the item that leads back down, into a file of its own if need be",
    );
}

/// The names of a path, from the root of its crate on.
type Path = Vec<String>;

/// A file of the library, or of the binary.
struct File<'a> {
    source: &'a Source,
    /// The path of its module; the root of a folder has the path of the folder.
    own: Path,
    /// The text without comments and tests.
    text: String,
}

/// An import of one module of a folder by another.
struct Import<'a> {
    folder: &'a [String],
    from: &'a str,
    to: String,
    source: &'a Source,
    line: usize,
}

impl Import<'_> {
    fn is(&self, left: &Left) -> bool {
        (self.from, self.to.as_str()) == (left.from, left.to)
            && self.folder.join("/") == left.folder
    }
}

impl<'a> File<'a> {
    fn of(source: &'a Source) -> Self {
        let path = source.path.trim_start_matches("src/");
        let mut own: Path = path
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        own.pop_if(|name| ["lib", "main", "mod"].contains(&name.as_str()));
        let lines: Vec<_> = without_comments(source.product())
            .map(|(_, line)| line)
            .collect();
        let text = lines.join("\n");
        Self { source, own, text }
    }

    /// The paths in the text that start in this crate, each with its line.
    fn paths(&self) -> Vec<(usize, Path)> {
        let mut all = Vec::new();
        for head in ["crate", "super", "self"] {
            for (at, _) in self.text.match_indices(&format!("{head}::")) {
                let before = &self.text[..at];
                if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let line = before.matches('\n').count() + 1;
                let named = named(&self.text[at..]).into_iter();
                all.extend(named.map(|names| (line, self.absolute(&names))));
            }
        }
        all
    }

    fn absolute(&self, names: &[&str]) -> Path {
        let mut path = self.own.clone();
        for name in names {
            match *name {
                // The binary is a crate of its own.
                "crate" => {
                    let is_binary = self.own.first().is_some_and(|name| name == "cli");
                    path.truncate(usize::from(is_binary));
                }
                "self" => {}
                "super" => drop(path.pop()),
                name => path.push(name.to_owned()),
            }
        }
        path
    }
}

/// The paths that start with the name at the start of the text, one for each name of a group.
fn named(text: &str) -> Vec<Vec<&str>> {
    let text = text.trim_start();
    let name = first_name(text);
    let after = text[name.len()..].strip_prefix("::");
    let mut rest = match after {
        Some(group) if group.starts_with('{') => items(group).into_iter().flat_map(named).collect(),
        Some(path) => named(path),
        None => vec![Vec::new()],
    };
    if !name.is_empty() {
        rest.iter_mut().for_each(|path| path.insert(0, name));
    }
    rest
}

/// The items of a group in braces at the start of the text.
fn items(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0_usize, 1);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            items.push(group[start..at].trim());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

/// The imports between the modules of each folder. The root of the folder does not count: it
/// declares the modules, and gives names of theirs on.
fn imports<'a>(files: &'a [File<'_>]) -> Vec<Import<'a>> {
    let modules: BTreeSet<&[String]> = files.iter().map(|file| &file.own[..]).collect();
    // The module behind each name that the root of a folder gives on.
    let mut given = BTreeMap::new();
    for file in files {
        for (_, path) in file.paths() {
            let inner = path.strip_prefix(&file.own[..]);
            if let Some([module, .., name]) = inner {
                let name = [&file.own[..], slice::from_ref(name)].concat();
                given.insert(name, module.clone());
            }
        }
    }
    let mut imports = Vec::new();
    for file in files {
        for (line, path) in file.paths() {
            let pairs = file.own.iter().zip(&path);
            let common = pairs.take_while(|(own, name)| own == name).count();
            let (Some(from), true) = (file.own.get(common), common < path.len()) else {
                continue;
            };
            let mut target = path[..=common].to_vec();
            if !modules.contains(&target[..])
                && let Some(behind) = given.get(&target)
            {
                target[common].clone_from(behind);
            }
            let to = target[common].clone();
            if modules.contains(&target[..]) && to != *from {
                imports.push(Import {
                    folder: &file.own[..common],
                    from,
                    to,
                    source: file.source,
                    line,
                });
            }
        }
    }
    imports
}

/// A line for each import that leads back to the module that it stands in.
fn circles(imports: &[Import<'_>]) -> Vec<Breach> {
    let circular = imports.iter().filter(|import| {
        let inside = imports.iter().filter(|it| it.folder == import.folder);
        let steps: Vec<_> = inside.map(|it| (it.from, it.to.as_str())).collect();
        leads(&steps, &import.to, import.from)
    });
    let told = circular.map(|import| {
        let what = format!(
            "`{}` imports `{}`, which leads back",
            import.from, import.to
        );
        import.source.breach(import.line, &what)
    });
    let told: BTreeSet<_> = told.collect();
    told.into_iter().collect()
}

/// Whether steps lead from one module to the other.
fn leads(steps: &[(&str, &str)], from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        if seen.insert(module) {
            let onward = steps.iter().filter(|(from, _)| *from == module);
            next.extend(onward.map(|(_, to)| to));
        }
    }
    seen.contains(to)
}

/// Checks the rule itself, on a folder of three files.
#[test]
fn a_circle_is_found_however_its_imports_are_written() {
    let found = |texts: [&str; 3]| {
        let root = "mod a;\nmod b;\nmod c;\npub use self::a::{self, inner::{Deep, Inner}};\n\
                    pub(crate) use self::{b::Beta, c::Gamma};\n";
        let files = ["a", "b", "c"].map(|name| format!("src/x/{name}.rs"));
        let texts = files.into_iter().zip(texts);
        let mut sources: Vec<_> = texts
            .map(|(path, text)| Source {
                path,
                text: text.to_owned(),
            })
            .collect();
        let (path, text) = ("src/x/mod.rs".to_owned(), root.to_owned());
        sources.push(Source { path, text });
        let files: Vec<_> = sources.iter().map(File::of).collect();
        circles(&imports(&files)).len()
    };
    for broken in [
        ["use super::b::Beta;", "use super::a::Alpha;", ""],
        [
            "use crate::x::b::Beta;",
            "\nuse crate::{\n    w::W,\n    x::{a::Alpha, y},\n};",
            "",
        ],
        ["use super::Beta;", "use crate::x::Deep;", ""],
        [
            "fn f() -> super::b::Beta {}",
            "fn f() { crate::x::a::f() }",
            "",
        ],
    ] {
        assert_eq!(found(broken), 2, "{broken:?}");
    }
    let long = ["use super::b;", "use super::{c, w};", "use super::a;"];
    assert_eq!(found(long), 3, "{long:?}");
    let test = "#[cfg(test)]\nmod tests {\n    use crate::x::a::Alpha;\n}";
    for sound in [
        [
            "use super::b::Beta;",
            "use super::c::Gamma;",
            "use super::X;",
        ],
        [
            "use super::b::Beta;",
            "// See super::a::Alpha.",
            "use crate::w::a;",
        ],
        ["use super::b::Beta;", &format!("fn f() {{}}\n\n{test}"), ""],
        [
            "use self::b::Beta;\nuse crate::x::b;",
            "use crate::a::Alpha;",
            "",
        ],
    ] {
        assert_eq!(found(sound), 0, "{sound:?}");
    }
}
