//! The whole server on real sockets of 127.0.0.1: what its clients and its operator see.
//!
//! Tests wait for events (a frame, the end of a stream, the exit of a process), never for time;
//! where only a counter shows what happened they yield until it does.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test is a user of the tokio runtime like any other"
)]

mod server;

mod client;

mod raw;

mod http;

mod refused;
mod rooms;
mod services;

mod deflate;

mod closing;

mod crash;

mod limits;

mod half_closed;

mod admin;
mod api;

#[cfg(target_os = "linux")]
mod placement;
mod slow;
mod threads;

mod drain;

mod churn;

mod presence;
mod process;

mod settings;

#[cfg(unix)]
mod streams;

mod origin;

mod sse;

mod hosts;

mod probes;

mod auth;

mod jwks;

mod tls;

#[cfg(feature = "otel")]
mod traces;

#[cfg(unix)]
mod unix;

#[cfg(target_os = "linux")]
mod families;

mod embed;

mod history_file;

mod bench;
mod node;

mod abuse;
