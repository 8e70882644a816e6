//! The command line of the load generator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::token::VARIABLE;

const ABOUT: &str =
    "Measures a server: what a message costs it, how long it takes, what an idle client holds";

const EXAMPLES: &str = "Try it:
  busline                                           in one terminal
  busline bench echo --clients 64 --in-flight 16    in another

One thread reads and sends without ever waiting, so keep a core for it and another for the server:
  taskset -c 0 busline
  taskset -c 1 busline bench fan-out --clients 1000 --window 64 --json

A server on the same machine (Linux) is found by its port, and its processor time is told for each
message that was delivered. Figures from a machine that does something else are worth little.";

/// The command line of `bench`.
pub fn command() -> Command {
    Command::new("bench")
        .about(ABOUT)
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        // The server's option, which has no meaning here.
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .hide(true),
        )
        .subcommands([echo(), fan_out(), broadcast(), latency(), idle()])
}

fn echo() -> Command {
    let in_flight = number("in-flight", "COUNT", "1", 1..=65_536)
        .help("Messages that each client has sent and not got back");
    sending("echo", "64", "32")
        .about("Each client gets its own messages back")
        .arg(in_flight)
}

fn fan_out() -> Command {
    let window = number("window", "COUNT", "16", 1..=65_536).help(
        "Messages that not all clients have got yet; a server may drop what is beyond its own \
         window (busline: 256)",
    );
    let publish_path = Arg::new("publish-path")
        .long("publish-path")
        .value_name("PATH")
        .value_parser(path)
        .help(
            "Publishes on a connection of its own, to this path; else the first client publishes, \
         and gets its messages as well",
        );
    sending("fan-out", "1000", "64")
        .about("One client publishes, all get it; what counts are deliveries")
        .args([window, publish_path])
}

fn broadcast() -> Command {
    sending("broadcast", "50", "32").about("Every client sends, all get everything")
}

fn latency() -> Command {
    let rate = Arg::new("rate")
        .long("rate")
        .value_name("MESSAGES")
        .default_value("10000")
        .value_parser(rate)
        .help("Messages a second, by all clients together");
    sending("latency", "64", "32")
        .about("Messages at a fixed rate, each timed from when it was due")
        .arg(rate)
}

fn idle() -> Command {
    let seconds = time("seconds", "3").help("Time to hold them before memory is looked at");
    common("idle", "10000")
        .about("Clients that say nothing: the memory that each takes")
        .arg(seconds)
}

/// The arguments of a workload that sends.
fn sending(name: &'static str, clients: &'static str, size: &'static str) -> Command {
    let messages = Arg::new("messages")
        .long("messages")
        .value_name("COUNT")
        .value_parser(value_parser!(u64).range(1..=1 << 40))
        .help("Ends after so many messages were sent and delivered, instead of after a time")
        .conflicts_with_all(["seconds", "warm-up"]);
    common(name, clients).args([
        number("size", "BYTES", size, 0..=16 << 20).help("Size of a message"),
        time("seconds", "5").help("Time that is measured"),
        time("warm-up", "1").help("Time before it"),
        messages,
        switch("verify").help(
            "Checks each message: what it says, its order, that it comes once; slower, and the \
             size is 16 bytes at least",
        ),
        switch("wait").help(
            "Sleeps when there is nothing to read; else one core is kept busy, so that the \
             server never pays for waking it",
        ),
    ])
}

fn common(name: &'static str, clients: &'static str) -> Command {
    let url = Arg::new("url")
        .long("url")
        .value_name("URL")
        .default_value("ws://localhost:8080")
        .help("The server, as ws://HOST:PORT or with a path instead of a service");
    let service = Arg::new("service").long("service").value_name("NAME").value_parser(word).help(
        "The service, at /ws/<NAME>; else the path of the URL, else echo or ping, as the workload \
         asks for",
    );
    let pid = Arg::new("pid")
        .long("pid")
        .value_name("PID")
        .value_parser(value_parser!(u32))
        .help("The server's process, if it is not found by its port");
    let token = Arg::new("token-file")
        .long("token-file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!(
            "File with the bearer token of all clients [env: {VARIABLE}]"
        ));
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .hide(true);
    Command::new(name).args([
        config,
        url,
        service,
        number("clients", "COUNT", clients, 1..=1_000_000).help("Clients that are connected"),
        time("connect-timeout", "10")
            .value_parser(timeout)
            .help("Time without any progress after which it gives up to connect the clients"),
        time("patience", "5").help(
            "Time without any message after which it gives up to wait for those on their way",
        ),
        pid,
        token,
        switch("json").help("Prints the figures as JSON"),
    ])
}

fn switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn number(
    name: &'static str,
    unit: &'static str,
    default: &'static str,
    range: std::ops::RangeInclusive<u64>,
) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(unit)
        .default_value(default)
        .value_parser(value_parser!(u64).range(range))
}

fn time(name: &'static str, default: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("SECONDS")
        .default_value(default)
        .value_parser(duration)
}

/// Checks a word that can be part of a request.
fn word(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("one word of visible ASCII is allowed".to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => word(text),
        false => Err("a path starts with /".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_no_number| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_secs(86_400) => Ok(duration),
        Ok(_) | Err(_) => Err("0 to 86400 seconds are allowed".to_owned()),
    }
}

/// Parses a duration greater than zero.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("more than 0 and at most 86400 seconds are allowed".to_owned()),
        timeout => Ok(timeout),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_no_number| "not a number")?;
    match (0.001..=1e8).contains(&rate) {
        true => Ok(rate),
        false => Err("0.001 to 100000000 messages a second are allowed".to_owned()),
    }
}
