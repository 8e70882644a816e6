//! The filter for log lines: levels, for all modules or for single ones. Unknown words are
//! rejected, because such a filter would log nothing.

use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::problem::near;
use super::value::Described;

/// The names of the levels.
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

/// The name of this program, which is the first part of the names of all its modules.
const PROGRAM: &str = "busline";

/// The modules of the library and of the binary.
const MODULES: &[&str] = &[
    "admin",
    "admission",
    "api",
    "app",
    "bus",
    "caller",
    "client",
    "fan_out",
    "greeting",
    "histogram",
    "histories",
    "instant",
    "limits",
    "logs",
    "metrics",
    "notify",
    "open_files",
    "output",
    "planted",
    "presence",
    "refusal",
    "registry",
    "reload",
    "rt",
    "scratch",
    "server",
    "service",
    "session",
    "shards",
    "signals",
    "sync",
    "threads",
    "trim",
    "wire",
];

/// A filter for log lines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogFilter(pub(crate) Targets);

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogFilterError {
    /// A single word, or a word after `=`, is not a level.
    #[error("`{0}` is no level{near}", near = near(.0, LEVELS))]
    Level(String),
    /// A module has no level.
    #[error("a module needs a level: write `{0}=debug`")]
    NoLevel(String),
    /// The program has no module with this name.
    #[error("there is no module `{PROGRAM}::{0}`{near}", near = near(.0, MODULES))]
    Module(String),
    /// The text cannot be the name of a module.
    #[error("`{0}` is no module")]
    Name(String),
    /// The text is nearly the program's name.
    #[error("there is nothing named `{0}`, did you mean `{PROGRAM}`?")]
    Program(String),
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let directives = text.split(',').map(directive);
        let directives = directives.collect::<Result<Vec<_>, _>>()?;
        let parsed = directives.join(",").parse();
        parsed
            .map(Self)
            .map_err(|_| LogFilterError::Name(text.to_owned()))
    }
}

/// Parses a part of a filter, and removes the spaces around its words, which would become part of a
/// name.
fn directive(text: &str) -> Result<String, LogFilterError> {
    let Some((target, word)) = text.split_once('=') else {
        let word = text.trim();
        let is_ours = word.split("::").next() == Some(PROGRAM) && module(word).is_ok();
        return match level(word) {
            Err(_) if is_ours => Err(LogFilterError::NoLevel(word.to_owned())),
            read => read.map(str::to_owned),
        };
    };
    let target = target.trim();
    // The name of a module may be followed by fields of its spans.
    module(target.split('[').next().unwrap_or(target))?;
    Ok(format!("{target}={}", level(word.trim())?))
}

fn level(word: &str) -> Result<&str, LogFilterError> {
    // An empty level would be parsed as `error`.
    let is_level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    is_level
        .then_some(word)
        .ok_or_else(|| LogFilterError::Level(word.to_owned()))
}

/// Checks the name of a module: a module of this program must exist, other programs are not
/// checked.
fn module(name: &str) -> Result<(), LogFilterError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(LogFilterError::Name(name.to_owned()));
    }
    let mut parts = name.split("::");
    let program = parts.next().unwrap_or_default();
    if program != PROGRAM {
        return match near(program, &[PROGRAM]).is_empty() {
            true => Ok(()),
            false => Err(LogFilterError::Program(program.to_owned())),
        };
    }
    match parts.next() {
        Some(module) if !MODULES.contains(&module) => {
            Err(LogFilterError::Module(module.to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

impl Described for LogFilter {
    const PLACEHOLDER: &'static str = "FILTER";
    const ALLOWED: &'static str = "a level (error, warn, info, debug, trace or off), or a list of \
                                   levels and MODULE=LEVEL, such as info,busline::server=debug";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_of_levels_and_of_modules_with_levels() {
        for text in [
            "info",
            "Info",
            "OFF",
            "3",
            "busline=trace",
            "info,busline::server=debug",
            " warn , busline::server::auth = debug ",
            "off,busline::session[{client}]=debug",
            "opentelemetry-otlp=debug,warn",
            "hyper::client=trace",
        ] {
            let filter: Result<LogFilter, _> = text.parse();
            assert!(filter.is_ok(), "{text}: {filter:?}");
        }
    }

    #[test]
    fn spaces_around_are_no_part_of_a_name() {
        let spaced: LogFilter = " info, busline::server = debug".parse().expect("valid");
        assert_eq!(Ok(spaced), "info,busline::server=debug".parse());
    }

    #[test]
    fn a_word_that_names_nothing_is_refused_with_what_was_probably_meant() {
        for (text, said) in [
            ("verbose", "`verbose` is no level"),
            ("", "`` is no level"),
            ("inof", "did you mean `info`?"),
            ("warnn", "did you mean `warn`?"),
            ("9", "`9` is no level"),
            ("info,verbose", "`verbose` is no level"),
            ("info,", "`` is no level"),
            ("info;debug", "`info;debug` is no level"),
            ("busline::server", "write `busline::server=debug`"),
            ("busline", "write `busline=debug`"),
            ("busline=verbose", "`verbose` is no level"),
            ("busline::server=", "`` is no level"),
            ("busline::sevrer=debug", "did you mean `server`?"),
            ("busline::nothing=debug", "no module `busline::nothing`"),
            ("bussline=debug", "did you mean `busline`?"),
            ("=debug", "`` is no module"),
            ("a b=debug", "`a b` is no module"),
            ("a=b=debug", "`b=debug` is no level"),
        ] {
            let error = text.parse::<LogFilter>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn the_modules_are_those_of_the_library_and_the_binary() {
        let roots = [
            include_str!("../../lib.rs"),
            include_str!("../../cli/main.rs"),
        ];
        let lines = roots.iter().flat_map(|root| root.lines());
        let declared = lines.filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        // Modules for tests do not log.
        let mut modules: Vec<_> = declared
            .filter(|name| !["cases", "wakes"].contains(name))
            .collect();
        modules.sort_unstable();
        modules.dedup();
        assert_eq!(MODULES, modules);
    }
}
