//! busline is a WebSocket service host on a message bus.
//!
//! A service is an async function of a [`Context`]; clients reach it at `/ws/<service>`; it runs
//! while at least one client is connected. Clients and services never know each other: they meet on
//! topics.
//!
//! A program that embeds busline needs [`App`] and [`app::Builder`], [`Service`] and [`Context`],
//! [`Limits`], and the shell: `server` (feature `server`), with [`authorize`] to decide who may
//! join. The other modules are the parts of these, from the ground up:
//!
//! - [`address`] and [`Peer`]: the clients that bounds are counted for; [`identity`]: the identity
//!   of a client; [`host`]: the hosts that requests may name; [`origin`]: the pages that may
//!   connect.
//! - [`limits`]: every bound by name; [`histogram`]: durations, in classes.
//! - [`rt`]: the core's interface to a runtime.
//! - [`wire`]: the WebSocket protocol, bytes in and bytes out.
//! - [`bus`]: topics, messages, subscriptions.
//! - [`service`]: the interface of a service; `ping`, `echo`, `timenow`.
//! - [`registry`]: starts a service with its first client, stops it with its last.
//! - [`app`]: the application, which connects these modules.
//! - [`caller`]: the programs of a backend, by their keys; [`api`]: the meaning of their calls.
//! - [`session`]: one client's socket on the bus.
//! - `server`: binds the core to HTTP and real sockets.
//!
//! All modules but the shell do no I/O, read no clock and spawn nothing by themselves.
#![forbid(unsafe_code)]

mod admission;
pub mod api;
pub mod app;
pub mod bus;
pub mod caller;
#[cfg(test)]
mod cases;
mod client;
mod fan_out;
pub mod histogram;
mod instant;
pub mod limits;
mod metrics;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
pub mod presence;
#[cfg(feature = "server")]
mod refusal;
pub mod registry;
pub mod rt;
mod scratch;
#[cfg(feature = "server")]
pub mod server;
pub mod service;
pub mod session;
mod shards;
mod sync;
#[cfg(all(test, not(feature = "loom")))]
mod wakes;
pub mod wire;

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the page about rooms.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../docs/rooms.md")]
struct Rooms;

/// Compiles the example of the page about histories.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../docs/history.md")]
struct Histories;

pub use crate::admission::authorize::{self, Authorize};
// For the simulator and the tests.
#[doc(hidden)]
pub use crate::admission::bucket::Bucket;
#[doc(hidden)]
pub use crate::admission::pacing::Pacing;
pub use crate::app::App;
pub use crate::bus::{Client, Message};
pub use crate::client::peer::Peer;
pub use crate::client::{address, host, identity, origin};
pub use crate::limits::{Limits, ServicePolicy};
pub use crate::metrics::{
    CloseReason, DisplaceReason, RefuseReason, RequestOutcome, SessionCounts,
};
pub use crate::service::{Context, Service};
