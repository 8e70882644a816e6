//! Doc comments name their subject: no sentence begins with a pronoun in the place of a noun.

use crate::sources::{Source, assert_none, numbered, rust};

/// Words that name no subject, and so begin no sentence of a doc comment.
const NAMELESS: &[&str] = &[
    "What",
    "Who",
    "Whoever",
    "Whom",
    "Those",
    "These",
    "One of",
    "One that",
    "One which",
    "One who",
    "One whose",
    "Ones",
    "None",
    "Nobody",
    "Somebody",
    "Everybody",
    "Anybody",
    "The same",
    "The one",
];

/// Folders and files whose doc comments follow the rule; the list grows.
const DONE: &[&str] = &["bench/", "src/", "tests/tidy/sentences.rs"];

#[test]
fn each_sentence_of_a_doc_comment_names_its_subject() {
    let sources = rust();
    for done in DONE {
        let is_there = sources.iter().any(|source| source.path.starts_with(done));
        assert!(is_there, "there is no {done}");
    }
    let mut breaches = Vec::new();
    for source in &sources {
        if DONE.iter().any(|done| source.path.starts_with(done)) {
            breaches.extend(nameless(source));
        }
    }
    assert_none(
        &breaches,
        "begin the sentence with a noun, or with a verb such as \"Returns\"",
    );
}

/// The first words of sentences without a named subject, each with the line of its paragraph.
fn nameless(source: &Source) -> Vec<String> {
    let found = paragraphs(&source.text).into_iter();
    let wrong = found.flat_map(|(line, text)| {
        let starts = sentences(&text).filter_map(nameless_start);
        let starts: Vec<_> = starts.collect();
        starts.into_iter().map(move |start| (line, start))
    });
    wrong
        .map(|(line, start)| source.breach(line, &format!("a sentence begins with {start:?}")))
        .collect()
}

/// The paragraphs and list items of doc comments, each with its first line; code is left out.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let (mut is_open, mut is_code) = (false, false);
    for (number, line) in numbered(text) {
        let line = line.trim_start();
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        let Some(doc) = doc.map(str::trim) else {
            (is_open, is_code) = (false, false);
            continue;
        };
        if doc.starts_with("```") {
            (is_open, is_code) = (false, !is_code);
            continue;
        }
        if is_code || doc.is_empty() || doc.starts_with('#') {
            is_open = false;
            continue;
        }
        let item = doc.strip_prefix("- ");
        match all.last_mut() {
            Some((_, paragraph)) if is_open && item.is_none() => {
                paragraph.push(' ');
                paragraph.push_str(doc);
            }
            _ => all.push((number, item.unwrap_or(doc).to_owned())),
        }
        is_open = true;
    }
    all
}

/// The sentences of a paragraph, by the stops that end them.
fn sentences(paragraph: &str) -> impl Iterator<Item = &str> {
    let stops = [". ", "? ", "! "];
    let mut rest = Some(paragraph);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = stops.iter().filter_map(|stop| text.find(stop)).min();
        let (sentence, after) = match end {
            Some(end) => (&text[..end], Some(&text[end + 2..])),
            None => (text, None),
        };
        rest = after;
        Some(sentence.trim_start())
    })
}

/// The word or words without a noun with which a sentence begins, if it does.
fn nameless_start(sentence: &str) -> Option<&'static str> {
    let begins = |start: &&&str| {
        let rest = sentence.strip_prefix(**start);
        let next = rest.map(|rest| rest.chars().next());
        next.is_some_and(|next| next.is_none_or(|next| !next.is_alphanumeric()))
    };
    NAMELESS.iter().find(begins).copied()
}

/// Checks the rule itself, on comments that break it and on comments that do not.
#[test]
fn a_nameless_sentence_is_found_wherever_it_begins() {
    let doc = ["//", "/"].concat();
    let found = |lines: &[&str]| {
        let lines = lines.iter().map(|line| format!("    {doc} {line}\n"));
        let path = "src/example.rs".to_owned();
        let text = lines.collect::<String>() + "    fn example() {}\n";
        nameless(&Source { path, text })
    };
    let broken: &[&[&str]] = &[
        &["What somebody has said."],
        &["The sender. Who it is."],
        &[
            "Counts wakes, as seldom as",
            "can be. Those of one",
            "task.",
        ],
        &["A list:", "", "- The first item.", "- None, as a rule."],
        &["# Errors", "", "The same as before."],
        &["Is it there? Nobody knows."],
        &["One that waits."],
    ];
    for lines in broken {
        assert_eq!(found(lines).len(), 1, "{lines:?}");
    }
    let second = found(&["The sender.", "", "Whoever it is."]);
    assert!(second[0].starts_with("src/example.rs:3: "), "{second:?}");
    let sound: &[&[&str]] = &[
        &["The sender of the messages."],
        &["`None` only while the slot is being dropped."],
        &["The samesake. Onerous work."],
        &["Takes from those", "One of whom waits."],
        &["```", "Who.", "```"],
        &["Listens at port 80.What follows is no sentence."],
    ];
    for lines in sound {
        assert_eq!(found(lines), Vec::<String>::new(), "{lines:?}");
    }
}
