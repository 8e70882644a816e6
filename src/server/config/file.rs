//! Reads the configuration file: TOML, with the line of each value.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::key::Key;
use super::problem::Problem;
use super::schema::{API_KEYS, GONE, Gone, RELAY, ROOM, ROOM_LINGER, SECTIONS, SERVICE, keys_of};
use super::source::{Given, Layer, Place, Source};
use super::value::Kind;
use crate::bus::ServiceName;

/// The section of the API.
const API: &str = "api";

/// The content of a file, with the names of the known services.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) services: &'a [&'static str],
}

impl File<'_> {
    /// The values of the file; errors are added to the problems.
    pub(super) fn layer(self, problems: &mut Vec<Problem>) -> Layer {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let broken = !errors.is_empty();
        let mut reading = Reading {
            file: self,
            layer: Layer::default(),
            problems,
        };
        for error in errors {
            let at = reading.at(error.span().map_or(0, |span| span.start));
            let error = error.message().to_owned();
            reading.problems.push(Problem::Syntax { at, error });
        }
        if !broken {
            reading.top(table.get_ref());
        }
        reading.layer
    }
}

/// A name in the file.
type Name<'a> = Spanned<std::borrow::Cow<'a, str>>;

/// The state while a file is read.
struct Reading<'a> {
    file: File<'a>,
    layer: Layer,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        let sections: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        for (name, value) in table {
            let is_key = keys_of("").any(|key| key.name == name.get_ref());
            match value.get_ref().as_table() {
                None => self.key("", name, value),
                // An inline table, such as `history`.
                Some(_) if is_key => self.key("", name, value),
                Some(services) if name.get_ref() == SERVICE => self.services(services),
                Some(rooms) if name.get_ref() == ROOM => self.rooms(rooms),
                Some(keys) if name.get_ref() == API => self.api(keys),
                Some(keys) if sections.contains(&name.get_ref().as_ref()) => {
                    self.section(name.get_ref(), keys);
                }
                Some(_) => {
                    let named = sections.iter().copied().filter(|name| !name.is_empty());
                    self.unknown(name, named.chain([SERVICE, ROOM]).collect());
                }
            }
        }
    }

    fn services(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let known = self.file.services.contains(&name.get_ref().as_ref());
            match value.get_ref().as_table().filter(|_| known) {
                Some(keys) => self.section(&format!("{SERVICE}.{}", name.get_ref()), keys),
                None => self.unknown(name, self.file.services.to_vec()),
            }
        }
    }

    /// Reads the sections of kinds of rooms, which may have any name that no service has.
    fn rooms(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = self.at(name.span().start);
            let known = name.get_ref().as_ref();
            if let Some(problem) = self.bad_kind(known, &at) {
                self.problems.push(problem);
                continue;
            }
            let Some(keys) = value.get_ref().as_table() else {
                self.unknown(name, vec!["[room.NAME]"]);
                continue;
            };
            let section = format!("{ROOM}.{known}");
            // A section without keys is a kind of rooms, too; and rooms linger longer than
            // services, with which they share the key.
            let mut set = |key, text: &str, source| {
                let text = text.to_owned();
                self.layer
                    .set(Place::new(&section, key), Given { text, source });
            };
            set("run", RELAY, at);
            set("linger", ROOM_LINGER, Source::Default);
            self.section(&section, keys);
        }
    }

    /// Reads the section of the API, with an array of keys, each of which is a section by its name.
    fn api(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            match value.get_ref().as_array() {
                Some(keys) if name.get_ref() == "keys" => {
                    for key in keys {
                        self.api_key(key);
                    }
                }
                Some(_) | None => self.key(API, name, value),
            }
        }
    }

    fn api_key(&mut self, key: &Spanned<DeValue<'_>>) {
        let at = self.at(key.span().start);
        let bad = |at: &Source, error: &str| Problem::ApiKey {
            at: at.clone(),
            error: error.to_owned(),
        };
        let Some(table) = key.get_ref().as_table() else {
            return self.problems.push(bad(&at, "write each as a table"));
        };
        let named = table.get("name").and_then(|name| name.get_ref().as_str());
        let Some(named) = named.filter(|name| name.parse::<ServiceName>().is_ok()) else {
            let error = "it needs a `name`, of a-z, 0-9, `.`, `_` and `-`";
            return self.problems.push(bad(&at, error));
        };
        let section = format!("{API_KEYS}{named}");
        let place = Place::new(&section, "key");
        if self.layer.get(&place).is_some() {
            return self.problems.push(bad(&at, "there are two of this name"));
        }
        // A key that is missing is found by this place.
        let (text, source) = (String::new(), at);
        self.layer.set(place, Given { text, source });
        for (name, value) in table {
            if name.get_ref() != "name" {
                self.key(&section, name, value);
            }
        }
    }

    fn bad_kind(&self, name: &str, at: &Source) -> Option<Problem> {
        let error = match name.parse::<ServiceName>() {
            Err(error) => error.to_string(),
            Ok(_) if self.file.services.contains(&name) => {
                "the server has a service of this name".to_owned()
            }
            Ok(_) => return None,
        };
        Some(Problem::Kind {
            at: at.clone(),
            name: name.to_owned(),
            error,
        })
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            self.key(section, name, value);
        }
    }

    fn key(&mut self, section: &str, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(key) = keys_of(section).find(|key| key.name == name.get_ref()) else {
            let is_it = |gone: &&Gone| gone.section == section && gone.name == name.get_ref();
            if let Some(gone) = GONE.iter().find(is_it) {
                let at = self.at(name.span().start);
                return self.problems.push(gone.at(at));
            }
            let there = keys_of(section).map(|key| key.name).collect();
            return self.unknown(name, there);
        };
        let at = self.at(value.span().start);
        let place = Place::new(section, key.name);
        match text(key.kind, value.get_ref()) {
            Some(text) => self.layer.set(place, Given { text, source: at }),
            None => self
                .problems
                .push(wrong_type(key, place, at, value.get_ref())),
        }
    }

    fn unknown(&mut self, name: &Name<'_>, there: Vec<&'static str>) {
        let at = self.at(name.span().start);
        let name = name.get_ref().to_string();
        self.problems.push(Problem::Unknown { at, name, there });
    }

    /// The line that contains a byte.
    fn at(&self, offset: usize) -> Source {
        let before = self.file.text.bytes().take(offset);
        Source::File {
            path: self.file.path.to_owned(),
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
        }
    }
}

fn wrong_type(key: &Key, place: Place, at: Source, value: &DeValue<'_>) -> Problem {
    let written = match key.kind {
        Kind::List => "an array of strings",
        Kind::Real => "a number",
        Kind::Switch => "a boolean",
        Kind::Table => "an inline table",
        Kind::Text => "a string",
        Kind::Whole => "an integer",
    };
    Problem::Type {
        place,
        at,
        found: value.type_str(),
        allowed: (key.allowed)(),
        written,
    }
}

/// The text of a value, as in an environment variable; `None` if the value has another TOML type.
fn text(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::List, DeValue::Array(items)) => {
            let items = items.iter().map(|item| item.get_ref().as_str());
            Some(items.collect::<Option<Vec<_>>>()?.join(","))
        }
        (Kind::Switch, DeValue::Boolean(on)) => Some(on.to_string()),
        (Kind::Real, DeValue::Float(number)) => Some(number.as_str().to_owned()),
        (Kind::Real, DeValue::Integer(number)) => Some(number.as_str().to_owned()),
        (Kind::Text, DeValue::String(text)) => Some(text.to_string()),
        (Kind::Whole, DeValue::Integer(number)) => Some(match number.radix() {
            10 => number.as_str().to_owned(),
            radix => u64::from_str_radix(number.as_str(), radix)
                .ok()?
                .to_string(),
        }),
        (Kind::Table, DeValue::Table(items)) => {
            let items = items.iter().map(|(name, value)| {
                let number = value.get_ref().as_integer();
                let number = number.filter(|number| number.radix() == 10);
                let number = number.map(DeInteger::as_str);
                let value = number.or_else(|| value.get_ref().as_str())?;
                Some(format!("{} = {value}", name.get_ref()))
            });
            Some(items.collect::<Option<Vec<_>>>()?.join(", "))
        }
        (Kind::List | Kind::Real | Kind::Switch | Kind::Table | Kind::Text | Kind::Whole, _) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &[&str] = &["echo", "ping"];

    fn read(text: &str) -> (Layer, Vec<String>) {
        let mut problems = Vec::new();
        let file = File {
            path: "b.toml",
            text,
            services: SERVICES,
        };
        let layer = file.layer(&mut problems);
        (layer, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_value_keeps_its_section_and_its_line() {
        let text =
            "window = 0x10\nlisten = [\"a:1\", \"b:2\"]\n\n[service.ping]\nlinger = \"5s\"\n";
        let (layer, problems) = read(text);
        assert_eq!(problems, [""; 0]);
        let shown: Vec<_> = layer
            .iter()
            .map(|(place, given)| format!("{place}={} {}", given.text, given.source))
            .collect();
        assert_eq!(
            shown,
            [
                "listen=a:1,b:2 b.toml:2",
                "window=16 b.toml:1",
                "service.ping.linger=5s b.toml:5"
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_is_allowed() {
        for (text, parts) in [
            (
                "\nwindw = 1",
                &["b.toml:2: ", "`windw`", "did you mean `window`?"][..],
            ),
            (
                "window = \"1\"",
                &["b.toml:1: ", "`window` is string", "an integer"],
            ),
            (
                "window = 1.5",
                &["b.toml:1: ", "float", "from 1 to 1000000"],
            ),
            (
                "[limit]\nsessions = 1",
                &["b.toml:1: ", "`limit`", "`limits`?"],
            ),
            (
                "[limits]\nsession = 1",
                &["b.toml:2: ", "`session`", "`sessions`?"],
            ),
            (
                "[limits]\n\npings_missed_max = 2",
                &[
                    "b.toml:3: ",
                    "`limits.pings_missed_max` is gone",
                    "`pong_timeout`",
                ],
            ),
            ("pings_missed_max = 2", &["b.toml:1: ", "there is no"]),
            ("[service.pong]\n", &["b.toml:1: ", "`pong`", "echo, ping"]),
            ("service.ping = 1", &["b.toml:1: ", "`ping`"]),
            ("limits = 1", &["b.toml:1: ", "`limits`"]),
            ("origins = [1]", &["b.toml:1: ", "array of strings"]),
            ("a = \n", &["b.toml:1: "]),
            ("window = 1\nwindow = 2", &["b.toml:2: ", "duplicate key"]),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            for part in parts {
                assert!(problems[0].contains(part), "{text}: {part}: {problems:?}");
            }
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let (_, problems) = read("a = 1\nwindow = true\n[limits]\nb = 2\n");
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
