//! Why there is no measurement, and advice.

use std::io;

use thiserror::Error;

use super::upgrade::Refusal;

/// Why a run did not begin, or is not reliable.
#[derive(Debug, Error)]
pub(super) enum Problem {
    #[error(
        "{0:?} is no URL of a WebSocket server: {1}; write ws://HOST:PORT or ws://HOST:PORT/PATH"
    )]
    Url(String, &'static str),
    #[error(
        "TLS is not measured: give the ws:// address that is behind it, or of a server without it"
    )]
    Tls,
    #[error("cannot connect to {0}: {1}; start a server there (`busline`), or give its --url")]
    Unreachable(String, #[source] io::Error),
    #[error("client {client} of {clients} is not let in: {refusal}")]
    Refused {
        client: usize,
        clients: usize,
        refusal: Refusal,
    },
    #[error(
        "client {client} of {clients} cannot connect: {error}; the server, or this machine, has no \
         place for more connections: raise the server's limits, or ask for fewer --clients"
    )]
    Connect {
        client: usize,
        clients: usize,
        error: io::Error,
    },
    #[error(
        "{open} of {clients} clients are connected, and for {seconds} s the others got no answer: \
         the server accepts no more (look at its limits of sessions and of open files), or is \
         too slow (give it longer with --connect-timeout)"
    )]
    Silent {
        open: usize,
        clients: usize,
        seconds: f64,
    },
    #[error(
        "{clients} clients need {need} open files, and this process may have {limit}: raise the \
         hard limit (as root: `ulimit -n {need}`, or LimitNOFILE=), for the server as well, or ask \
         for fewer --clients"
    )]
    Descriptors {
        clients: usize,
        need: u64,
        limit: u64,
    },
    #[error("the token of {0} is no token: one word of visible ASCII is")]
    Token(String),
    #[error("cannot read the token of {0}: {1}")]
    TokenFile(String, #[source] io::Error),
    #[error("--verify marks each message with {0} bytes: give --size {0} or more")]
    NoRoom(usize),
    #[error("--verify remembers {0} numbers for {1} clients, too many: ask for fewer --clients")]
    TooManyPairs(usize, usize),
    #[error("there is no process {0} to measure, or /proc is not there: leave --pid out")]
    NoProcess(u32),
    #[error("the system gives no events: {0}")]
    Poll(#[source] io::Error),
    #[error("{0}")]
    Faults(String),
}
