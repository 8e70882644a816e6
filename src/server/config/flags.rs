//! The command line and the environment: a flag and a variable for each key of the schema.

use clap::builder::UnknownArgumentValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::key::{Change, Key};
use super::problem::{Problem, near};
use super::schema::{GONE, Gone, SECTIONS, SERVICE, SERVICE_KEYS};
use super::source::{Given, Layer, Place, Source};
use super::value::Kind;

const ABOUT: &str = "A WebSocket service host on a message bus";

const LONG_ABOUT: &str = "A WebSocket service host on a message bus.

Serves ws://localhost:8080/ws/<SERVICE> with the services ping (what you send reaches every client \
of it), echo (what you send comes back to you) and timenow (the UTC time every 2 s). Each runs \
while somebody is connected to it.

Each setting is a key of a file (--config), a variable of the environment and a flag; a flag beats \
a variable, and that the file. What stands below a service's name beats what is said for all: \
--service-ping-window 16, BUSLINE_SERVICE_PING_WINDOW=16, or `window = 16` below [service.ping].";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "Try it:
  busline                                   in one terminal
  websocat ws://localhost:8080/ws/ping      in two others; what you type in one appears in both";

/// The command line of a server with these services.
pub fn command(services: &[&'static str]) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help(
            "File with settings, in TOML; `busline config` shows all there are \
             [env: BUSLINE_CONFIG]",
        )
        .global(true);
    let file = Arg::new("file").value_name("FILE").required(true);
    Command::new("busline")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .styles(STYLES)
        .after_help(EXAMPLES)
        .arg(config)
        .args(args(services))
        .subcommand(
            Command::new("config")
                .about("Prints all settings as a file, each with where its value came from")
                .args(args(services)),
        )
        .subcommand(
            Command::new("check")
                .about("Checks a file with settings, and names each line that is wrong")
                .arg(file.help("The file")),
        )
        .subcommand(
            Command::new("completions")
                .about("Prints what completes the command line in a shell")
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .help("The shell")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
        )
        .subcommand(Command::new("man").about("Prints the manual page"))
}

/// The arguments for settings, for removed settings, and for misleading names from other programs.
fn args(services: &[&'static str]) -> impl Iterator<Item = Arg> {
    let settings = settings(services).map(|(section, key)| arg(&section, key));
    let refused = GONE.iter().map(gone_arg);
    settings
        .chain(refused)
        .chain(ADDRESSES.iter().map(misnamed))
}

/// Names that other programs use for the address to listen on, or for a part of it.
const ADDRESSES: &[&str] = &["addr", "address", "bind", "host", "port"];

/// An argument that is rejected with a suggestion.
fn misnamed(name: &&'static str) -> Arg {
    let example = "write `--listen HOST:PORT`, such as `--listen localhost:8080`";
    let parser = UnknownArgumentValueParser::suggest_arg("--listen").and_suggest(example);
    Arg::new(*name)
        .long(*name)
        .num_args(0..=1)
        .default_missing_value("")
        .value_parser(parser)
        .hide(true)
}

/// All keys, each with its section.
fn settings(services: &[&'static str]) -> impl Iterator<Item = (String, &'static Key)> {
    let all = SECTIONS
        .iter()
        .map(|section| (section.name.to_owned(), section.keys));
    let one = |name: &&str| (format!("{SERVICE}.{name}"), SERVICE_KEYS);
    all.chain(services.iter().map(one))
        .flat_map(|(section, keys)| keys.iter().map(move |key| (section.clone(), key)))
}

fn arg(section: &str, key: &'static Key) -> Arg {
    let arg = Arg::new(id(section, key.name))
        .long(flag(section, key.name))
        .help(help(section, key))
        .value_name(key.placeholder)
        // Hidden, because the help explains once that each key of a service exists for every single
        // service.
        .hide(section.starts_with(SERVICE));
    match key.kind {
        Kind::List => arg.action(ArgAction::Append),
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Kind::Real | Kind::Table | Kind::Text | Kind::Whole => arg,
    }
}

/// An argument for a removed setting, which is accepted only to be rejected with a hint.
fn gone_arg(gone: &Gone) -> Arg {
    Arg::new(id(gone.section, gone.name))
        .long(flag(gone.section, gone.name))
        .num_args(0..=1)
        .hide(true)
}

fn help(section: &str, key: &Key) -> String {
    let default = match (key.change, key.default) {
        (Change::Secret, _) | (_, "") => String::new(),
        (Change::Live | Change::Start, default) => format!(" [default: {default}]"),
    };
    let (text, variable) = (key.help.trim_start(), variable(section, key.name));
    format!("{text}{default} [env: {variable}]")
}

fn words(section: &str, name: &str, between: &str) -> String {
    match section {
        "" => name.to_owned(),
        section => format!("{}{between}{name}", section.replace('.', between)),
    }
}

fn id(section: &str, name: &str) -> String {
    words(section, name, ".")
}

fn flag(section: &str, name: &str) -> String {
    words(section, name, "-").replace('_', "-")
}

fn variable(section: &str, name: &str) -> String {
    let words = words(section, name, "_").replace('-', "_");
    format!("BUSLINE_{}", words.to_uppercase())
}

/// Problems for removed settings in the environment and in the flags.
pub(super) fn gone(
    matches: &ArgMatches,
    variables: impl Fn(&str) -> Option<String>,
) -> Vec<Problem> {
    let behind = match matches.subcommand() {
        Some(("config", behind)) => Some(behind),
        Some(_) | None => None,
    };
    let mut problems = Vec::new();
    for gone in GONE {
        let name = variable(gone.section, gone.name);
        if variables(&name).is_some() {
            problems.push(gone.at(Source::Environment(name)));
        }
        let id = id(gone.section, gone.name);
        let mut given = [Some(matches), behind].into_iter().flatten();
        if given.any(|given| given.value_source(&id) == Some(ValueSource::CommandLine)) {
            let flag = format!("--{}", flag(gone.section, gone.name));
            problems.push(gone.at(Source::Flag(flag)));
        }
    }
    problems
}

/// The values of the flags, before and after the word `config`.
pub(super) fn given(matches: &ArgMatches, services: &[&'static str]) -> Layer {
    let before = flags(matches, services);
    match matches.subcommand() {
        Some(("config", behind)) => before.under(flags(behind, services)),
        Some(_) | None => before,
    }
}

fn flags(matches: &ArgMatches, services: &[&'static str]) -> Layer {
    let mut layer = Layer::default();
    for (section, key) in settings(services) {
        let id = id(&section, key.name);
        if matches.value_source(&id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let texts = matches.get_many::<String>(&id).into_iter().flatten();
        let text = texts.map(String::as_str).collect::<Vec<_>>().join(",");
        let source = Source::Flag(format!("--{}", flag(&section, key.name)));
        layer.set(Place::new(&section, key.name), Given { text, source });
    }
    layer
}

/// Messages about variables that begin with our prefix and are not settings.
pub(super) fn unknown(
    names: impl Iterator<Item = String>,
    services: &[&'static str],
) -> Vec<String> {
    let known: Vec<_> = settings(services)
        .map(|(section, key)| variable(&section, key.name))
        // Variables of removed settings are rejected elsewhere, not ignored.
        .chain(GONE.iter().map(|gone| variable(gone.section, gone.name)))
        .chain(["BUSLINE_CONFIG".to_owned()])
        .collect();
    let ours = names.filter(|name| name.starts_with("BUSLINE_"));
    let unknown = ours.filter(|name| !known.contains(name));
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let said = |name: String| format!("{name} is no setting, and ignored{}", near(&name, &known));
    unknown.map(said).collect()
}

/// The values of the environment.
pub(super) fn environment(
    variables: impl Fn(&str) -> Option<String>,
    services: &[&'static str],
) -> Layer {
    let mut layer = Layer::default();
    for (section, key) in settings(services) {
        let name = variable(&section, key.name);
        if let Some(text) = variables(&name) {
            let source = Source::Environment(name);
            layer.set(Place::new(&section, key.name), Given { text, source });
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Sources;

    #[test]
    fn a_variable_that_is_no_setting_is_named() {
        let names = [
            "BUSLINE_LINGER",
            "BUSLINE_LIMITS_SESSIONS",
            "BUSLINE_CONFIG",
            "BUSLINE_LINGR",
            "BUSLINE_SERVICE_TIME_NOW_LINGER",
            "BUSLINE_SERVICE_TIMENOW_LINGER",
            "BUSLINE_SERVICE_PING_LINGER",
        ];
        let names = names.into_iter().chain(["PATH"]).map(str::to_owned);
        let unknown = unknown(names, &["time-now"]);
        assert_eq!(
            unknown,
            [
                "BUSLINE_LINGR is no setting, and ignored, did you mean `BUSLINE_LINGER`?",
                "BUSLINE_SERVICE_TIMENOW_LINGER is no setting, and ignored, did you mean \
                 `BUSLINE_SERVICE_TIME_NOW_LINGER`?",
                "BUSLINE_SERVICE_PING_LINGER is no setting, and ignored",
            ]
        );
    }

    #[test]
    fn a_flag_may_stand_before_and_behind_the_word_config() {
        let services = &["ping"];
        let line = "busline --linger 1s --window 2 config --linger 3s --service-ping-window 4";
        let matches = command(services).try_get_matches_from(line.split(' '));
        let layer = given(&matches.expect("it is a command"), services);
        let shown: Vec<_> = layer
            .iter()
            .map(|(place, given)| format!("{place}={}", given.text))
            .collect();
        assert_eq!(shown, ["linger=3s", "window=2", "service.ping.window=4"]);
    }

    #[test]
    fn what_others_call_the_address_is_answered_with_what_it_is_called_here() {
        for line in [
            "--port 8080",
            "--port=8080",
            "--port",
            "config --port 80",
            "--bind a:1",
        ] {
            let line = format!("busline {line}");
            let error = command(&[]).try_get_matches_from(line.split(' '));
            let error = error.expect_err(&line).to_string();
            assert!(error.contains("--listen localhost:8080"), "{line}: {error}");
            assert!(error.starts_with("error: unexpected argument"), "{error}");
        }
    }

    #[test]
    fn a_setting_that_is_gone_is_refused_with_what_takes_its_place() {
        const FLAG: &str = "--limits-pings-missed-max";
        let set = |name: &str| (name == "BUSLINE_LIMITS_PINGS_MISSED_MAX").then(|| "2".to_owned());
        let unset = |_: &str| None;
        let told = |args: &[&str], variables: &dyn Fn(&str) -> Option<String>| {
            let args = ["busline"].iter().chain(args);
            let matches = command(&[]).get_matches_from(args);
            let sources = Sources::new(&matches, variables, &[]);
            let refused = sources.read().err();
            refused.map_or(Vec::new(), |problems| problems.iter().collect())
        };
        assert_eq!(told(&[], &unset), [""; 0]);
        let hint = "`limits.pings_missed_max` is gone: set `pong_timeout`, the time a client has \
                    to answer a ping";
        let of_flag = format!("{FLAG}: {hint}");
        for args in [&[FLAG, "2"][..], &[FLAG], &["--limits-pings-missed-max=2"]] {
            assert_eq!(told(args, &unset), [of_flag.as_str()]);
        }
        let of_variable = format!("BUSLINE_LIMITS_PINGS_MISSED_MAX: {hint}");
        assert_eq!(told(&[], &set), [of_variable.as_str()]);
        assert_eq!(told(&[FLAG, "2"], &set), [of_variable, of_flag]);
        let names = ["BUSLINE_LIMITS_PINGS_MISSED_MAX".to_owned()];
        assert_eq!(
            unknown(names.into_iter(), &[]),
            [""; 0],
            "it is not ignored"
        );
    }

    #[test]
    fn the_command_is_whole() {
        command(&["ping", "time-now"]).debug_assert();
    }
}
