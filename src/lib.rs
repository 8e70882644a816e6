//! busline is a WebSocket service host on a message bus.
//!
//! A service is one async function of a [`Context`]; clients reach it at `/ws/<service>`; it runs
//! while somebody is connected. Clients and services never know each other: they meet on topics.
//!
//! A program that embeds busline needs [`App`] and [`app::Builder`], [`Service`] and [`Context`],
//! [`Limits`], and the shell: `server` (feature `server`), with [`authorize`] to decide who may
//! join. The other modules are what these are made of, from the ground up:
//!
//! - [`address`], [`Peer`]: a client as limits count it; [`identity`]: who it is; [`host`],
//!   [`origin`]: which hosts a request may name, and which pages may connect.
//! - [`limits`]: every bound by name; [`histogram`]: how long things take.
//! - [`rt`]: what the core asks of a runtime.
//! - [`wire`]: the WebSocket protocol, bytes in and bytes out.
//! - [`bus`]: topics, messages, subscriptions.
//! - [`service`]: what a service is; `ping`, `echo`, `timenow`.
//! - [`registry`]: starts a service with its first client, stops it with its last.
//! - [`app`]: all of these put together.
//! - [`session`]: one client's socket on the bus.
//! - `server`: binds it to HTTP and real sockets.
//!
//! Everything but the shell does no I/O, reads no clock and spawns nothing by itself.
#![forbid(unsafe_code)]

mod admission;
pub mod app;
pub mod bus;
#[cfg(test)]
mod cases;
mod client;
mod fan;
pub mod histogram;
mod instant;
pub mod limits;
mod metrics;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
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

/// The README's examples compile.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use crate::admission::authorize::{self, Authorize};
// For the simulator and the tests.
#[doc(hidden)]
pub use crate::admission::bucket::Bucket;
#[doc(hidden)]
pub use crate::admission::pacing::Pacing;
pub use crate::app::App;
pub use crate::bus::Message;
pub use crate::client::peer::Peer;
pub use crate::client::{address, host, identity, origin};
pub use crate::limits::{Limits, ServicePolicy};
pub use crate::metrics::{CloseReason, DisplaceReason, RefuseReason, SessionCounts};
pub use crate::service::{Context, Service};
