//! What the binary can be told: flags and environment.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, ValueEnum};
use tracing_subscriber::filter::Targets;

use crate::limits::{LifecyclePolicy, Limits, Window};

/// The flags of the binary, each with an environment variable and a default.
#[derive(Clone, Debug, Parser)]
#[command(version, about = ABOUT, long_about = LONG_ABOUT, styles = STYLES, after_help = EXAMPLES)]
pub struct Config {
    /// Address to listen on; `localhost` is both loopback addresses, of IPv4 and of IPv6
    #[arg(
        long,
        env = "BUSLINE_LISTEN",
        value_name = "HOST:PORT",
        default_value = "localhost:8080"
    )]
    pub listen: String,

    /// Address of the operators' listener, with /metrics, /readyz and /debug, or `off`; unless
    /// given it is localhost:8081, and off if another program listens there
    #[arg(long, env = "BUSLINE_ADMIN", value_name = "HOST:PORT")]
    pub admin: Option<String>,

    /// Largest message a client may send, in bytes; a longer one closes its session with 1009
    #[arg(
        long,
        env = "BUSLINE_MAX_MESSAGE_BYTES",
        value_name = "BYTES",
        default_value_t = 65536
    )]
    max_message_bytes: u32,

    /// Messages a topic keeps for its slowest reader; a reader further behind loses the oldest
    #[arg(
        long,
        env = "BUSLINE_WINDOW",
        value_name = "MESSAGES",
        default_value = "256"
    )]
    window: NonZeroUsize,

    /// Time a service is kept running without clients, such as `0s`, `1m 30s`
    #[arg(long, env = "BUSLINE_LINGER", value_name = "TIME", default_value = "0s",
          value_parser = duration)]
    linger: Duration,

    /// What to log, to standard error: error, warn, info, debug, trace or off, for all or by
    /// module, such as `info,busline::server=debug`
    #[arg(
        long,
        env = "BUSLINE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: Targets,

    /// How to log: lines of text for people, or a JSON object a line for programs
    #[arg(
        long,
        env = "BUSLINE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text.
    #[default]
    Text,
}

const ABOUT: &str = "A WebSocket service host on a message bus";

const LONG_ABOUT: &str = "A WebSocket service host on a message bus.

Serves ws://localhost:8080/ws/<SERVICE> with the services ping (what you send reaches every client \
of it), echo (what you send comes back to you) and timenow (the UTC time every 2 s). Each runs \
while somebody is connected to it.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "Try it:
  busline                                   in one terminal
  websocat ws://localhost:8080/ws/ping      in two others; what you type in one appears in both";

impl Config {
    /// The bounds it asks for.
    pub fn limits(&self) -> Limits {
        let message_bytes = usize::try_from(self.max_message_bytes).unwrap_or(usize::MAX);
        Limits {
            message_bytes,
            window: Window {
                messages: self.window,
                // One that cannot hold the largest message would keep no second one beside it.
                bytes: Window::default().bytes.max(message_bytes),
            },
            ..Limits::default()
        }
    }

    /// How it wants services to be started and stopped.
    pub fn lifecycle(&self) -> LifecyclePolicy {
        LifecyclePolicy {
            linger: self.linger,
            ..LifecyclePolicy::default()
        }
    }
}

/// A time as people write it: `500ms`, `5s`, `1m 30s`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write a time with its unit, such as 500ms, 5s or 1m 30s";
    humantime::parse_duration(text).map_err(|error| format!("{error}; {hint}"))
}
