//! The parameters of a run, from the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use super::problem::Problem;
use super::target::Target;

mod command;

pub use self::command::command;

/// All parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// The path that the clients connect to.
    pub(super) path: String,
    pub(super) clients: usize,
    /// The size of a message in bytes.
    pub(super) size: usize,
    pub(super) span: Span,
    /// Longest time without progress while clients connect.
    pub(super) connect_timeout: Duration,
    /// Longest time without a message while messages are awaited.
    pub(super) patience: Duration,
    pub(super) pid: Option<u32>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) verify: bool,
    pub(super) json: bool,
    /// Whether to sleep while there are no events.
    pub(super) wait: bool,
}

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Echo {
        in_flight: usize,
    },
    FanOut {
        window: usize,
        publish_path: Option<String>,
    },
    Broadcast,
    Latency {
        rate: f64,
    },
    Idle,
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Span {
    /// A time, after a warm-up.
    Time {
        warm_up: Duration,
        measured: Duration,
    },
    /// Until this number of messages was sent and delivered.
    Messages(u64),
}

impl Options {
    /// The index of the only publisher, if there is one: the first client, or an additional one.
    pub(super) fn publisher(&self) -> Option<usize> {
        match &self.kind {
            Kind::FanOut {
                publish_path: Some(_),
                ..
            } => Some(self.clients),
            Kind::FanOut {
                publish_path: None, ..
            } => Some(0),
            Kind::Echo { .. } | Kind::Broadcast | Kind::Latency { .. } | Kind::Idle => None,
        }
    }

    /// The number of connections.
    pub(super) fn connections(&self) -> usize {
        let separate = self
            .publisher()
            .is_some_and(|client| client == self.clients);
        self.clients + usize::from(separate)
    }

    /// Reads the arguments of `bench`.
    ///
    /// # Errors
    ///
    /// Values that are invalid in combination, or that clap does not check.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Problem> {
        let (name, matches) = matches.subcommand().expect("one is required");
        let kind = kind(name, matches);
        let target = Target::parse(&text(matches, "url").unwrap_or_default())?;
        let path = match text(matches, "service") {
            Some(service) => format!("/ws/{service}"),
            None => target.path().unwrap_or_else(|| kind.path()).to_owned(),
        };
        Ok(Self {
            path,
            clients: count(matches, "clients"),
            size: match kind.sends() {
                true => count(matches, "size"),
                false => 0,
            },
            span: span(&kind, matches),
            connect_timeout: seconds(matches, "connect-timeout"),
            patience: seconds(matches, "patience"),
            pid: matches.get_one("pid").copied(),
            token_file: matches.get_one("token-file").cloned(),
            verify: kind.sends() && matches.get_flag("verify"),
            json: matches.get_flag("json"),
            wait: !kind.sends() || matches.get_flag("wait"),
            kind,
            target,
        })
    }
}

fn kind(name: &str, matches: &ArgMatches) -> Kind {
    match name {
        "echo" => Kind::Echo {
            in_flight: count(matches, "in-flight"),
        },
        "fan-out" => Kind::FanOut {
            window: count(matches, "window"),
            publish_path: text(matches, "publish-path"),
        },
        "broadcast" => Kind::Broadcast,
        "latency" => Kind::Latency {
            rate: *matches.get_one("rate").expect("it has a default"),
        },
        _ => Kind::Idle,
    }
}

fn span(kind: &Kind, matches: &ArgMatches) -> Span {
    if !kind.sends() {
        return Span::Time {
            warm_up: Duration::ZERO,
            measured: seconds(matches, "seconds"),
        };
    }
    match matches.get_one("messages") {
        Some(messages) => Span::Messages(*messages),
        None => Span::Time {
            warm_up: seconds(matches, "warm-up"),
            measured: seconds(matches, "seconds"),
        },
    }
}

impl Kind {
    /// Whether the workload sends messages.
    pub(super) fn sends(&self) -> bool {
        match self {
            Self::Echo { .. } | Self::FanOut { .. } | Self::Broadcast | Self::Latency { .. } => {
                true
            }
            Self::Idle => false,
        }
    }

    /// The default path.
    fn path(&self) -> &'static str {
        match self {
            Self::Echo { .. } | Self::Latency { .. } | Self::Idle => "/ws/echo",
            Self::FanOut { .. } | Self::Broadcast => "/ws/ping",
        }
    }
}

fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.get_one::<String>(id).cloned()
}

fn count(matches: &ArgMatches, id: &str) -> usize {
    let count: u64 = *matches.get_one(id).expect("it has a default");
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn seconds(matches: &ArgMatches, id: &str) -> Duration {
    *matches.get_one(id).expect("it has a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Options {
        let words = ["bench"].into_iter().chain(line.split(' '));
        let matches = command().try_get_matches_from(words).expect(line);
        Options::read(&matches).expect(line)
    }

    #[test]
    fn the_command_is_whole() {
        command().debug_assert();
    }

    #[test]
    fn each_workload_has_a_path_and_defaults() {
        for (line, path, clients, connections) in [
            ("echo", "/ws/echo", 64, 64),
            ("fan-out", "/ws/ping", 1000, 1000),
            (
                "fan-out --publish-path /pub --url ws://h/sub",
                "/sub",
                1000,
                1001,
            ),
            ("broadcast --service chat", "/ws/chat", 50, 50),
            ("latency --clients 3", "/ws/echo", 3, 3),
            ("idle", "/ws/echo", 10_000, 10_000),
        ] {
            let options = read(line);
            assert_eq!((options.path.as_str(), options.clients), (path, clients));
            assert_eq!(options.connections(), connections, "{line}");
        }
    }

    #[test]
    fn a_run_is_bounded_by_time_or_by_messages() {
        let time = Span::Time {
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(500),
        };
        assert_eq!(read("echo --seconds 0.5 --warm-up 0").span, time);
        assert_eq!(read("echo --messages 7").span, Span::Messages(7));
        let both = ["bench", "echo", "--messages", "7", "--seconds", "1"];
        assert!(command().try_get_matches_from(both).is_err());
    }

    #[test]
    fn what_is_out_of_bounds_is_an_error() {
        for line in [
            "echo --clients 0",
            "echo --in-flight 0",
            "echo --seconds -1",
            "echo --seconds x",
            "echo --connect-timeout 0",
            "latency --rate 0",
            "latency --rate NaN",
            "idle --size 1",
            "echo --service a\r\nb",
            "fan-out --publish-path pub",
            "walk",
        ] {
            let words = ["bench"].into_iter().chain(line.split(' '));
            assert!(command().try_get_matches_from(words).is_err(), "{line}");
        }
    }
}
