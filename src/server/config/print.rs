//! Prints the effective configuration as a file, each value with its source.

use std::fmt::Write;

use super::history;
use super::key::{Change, Key};
use super::schema::{API_KEYS, SECTIONS, keys_of};
use super::source::{Given, Layer, Place, Source};
use super::value::Kind;

/// The text of a file with the combined values of all sources.
pub(super) fn print(layer: &Layer) -> String {
    let mut text = String::new();
    let mut last = "";
    for section in SECTIONS {
        if section.name != last {
            header(&mut text, section.name);
            last = section.name;
        }
        for key in section.keys {
            let given = layer.get(&Place::new(section.name, key.name));
            line(&mut text, key, given);
        }
    }
    let mut last = "";
    let below = layer
        .iter()
        .filter(|(place, _)| place.section.contains('.'));
    for (place, given) in below {
        if place.section != last {
            match place.section.strip_prefix(API_KEYS) {
                Some(name) => array_header(&mut text, name),
                None => header(&mut text, &place.section),
            }
            last = &place.section;
        }
        if let Some(key) = keys_of(&place.section).find(|key| key.name == place.key) {
            line(&mut text, key, Some(given));
        }
    }
    text
}

fn header(text: &mut String, section: &str) {
    writeln!(text, "\n[{section}]").expect("a string takes everything");
}

/// The header of a key of the API, which is a table of an array.
fn array_header(text: &mut String, name: &str) {
    writeln!(text, "\n[[api.keys]]\nname = {}", quoted(name)).expect("a string takes everything");
}

fn line(text: &mut String, key: &Key, given: Option<&Given>) {
    let value = given.map_or(key.default, |given| &given.text);
    let source = given.map_or(&Source::Default, |given| &given.source);
    let name = key.name;
    let line = match written(key.kind, value) {
        Some(_) if key.change == Change::Secret && !value.is_empty() => {
            format!("# {name} is set and not shown")
        }
        Some(value) => format!("{name} = {value}"),
        None => format!("# {name} is not set"),
    };
    writeln!(text, "{line:<40} # {source}").expect("a string takes everything");
}

/// The value in TOML syntax; `None` for an unset value.
fn written(kind: Kind, value: &str) -> Option<String> {
    match kind {
        Kind::List => {
            let items = value.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty()).map(quoted);
            Some(format!("[{}]", items.collect::<Vec<_>>().join(", ")))
        }
        Kind::Real | Kind::Switch | Kind::Table | Kind::Text | Kind::Whole if value.is_empty() => {
            None
        }
        Kind::Table => {
            let items = history::items(value).unwrap_or_default().into_iter();
            let items = items.map(|(name, value)| {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let value = if is_number {
                    value.to_owned()
                } else {
                    quoted(value)
                };
                format!("{name} = {value}")
            });
            Some(format!("{{ {} }}", items.collect::<Vec<_>>().join(", ")))
        }
        Kind::Switch => Some(value.to_owned()),
        // TOML has neither `1e-3` without a point nor `.5`.
        Kind::Real => Some(
            value
                .parse::<f64>()
                .map_or_else(|_| value.to_owned(), |number| format!("{number:?}")),
        ),
        // TOML does not allow leading zeros.
        Kind::Whole => Some(
            value
                .parse::<u64>()
                .map_or_else(|_| value.to_owned(), |number| number.to_string()),
        ),
        Kind::Text => Some(quoted(value)),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(control)).expect("a string takes everything");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::file::File;

    fn layer(text: &str) -> Layer {
        let mut problems = Vec::new();
        let services = &["ping"];
        let path = "b.toml";
        let file = File {
            path,
            text,
            services,
        };
        let layer = file.layer(&mut problems);
        assert_eq!(problems, []);
        layer
    }

    #[test]
    fn what_is_printed_says_where_it_came_from() {
        let printed = print(&layer("window = 7\n[service.ping]\nlinger = \"1m\"\n"));
        for (start, end) in [
            ("window = 7 ", " # b.toml:1"),
            ("linger = \"0s\" ", " # default"),
            ("linger = \"1m\" ", " # b.toml:3"),
            ("listen = [\"localhost:8080\"] ", " # default"),
        ] {
            let found = printed.lines().find(|line| line.starts_with(start));
            assert!(
                found.is_some_and(|line| line.ends_with(end)),
                "{start}: {printed}"
            );
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = "a secret of tests, of at least 32 bytes";
        let printed = print(&layer(&format!("[auth]\nsecret = \"{secret}\"\n")));
        assert!(!printed.contains(secret), "{printed}");
        let line = printed
            .lines()
            .find(|line| line.starts_with("# secret is set"));
        assert!(
            line.is_some_and(|line| line.ends_with("# b.toml:2")),
            "{printed}"
        );
    }

    #[test]
    fn what_is_printed_can_be_read_and_says_the_same() {
        let text = "log = \"info,a=\\\"\\\\\\u0001\"\norigins = [\"a\", \"b\"]\n\
                    [service.ping]\nwindow = 2\n";
        let given = layer(text);
        let again = layer(&print(&given));
        for (place, value) in given.iter() {
            let printed = again.get(place).map(|given| &given.text);
            assert_eq!(printed, Some(&value.text), "{place}");
        }
        assert_eq!(print(&again).lines().count(), print(&given).lines().count());
    }
}
