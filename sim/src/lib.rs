//! The simulator of busline: the whole server under virtual time, from a seed.
//!
//! One seed makes one [`Plan`], one plan makes one [`Trace`], and the [`checker`]s judge the trace.
//! Nothing else goes in: the same seed gives the same trace, byte for byte, in any process.
//!
//! ```text
//!   seed -> scenario -> Plan -> run --------------------------------> Trace -> checkers -> Report
//!                               |  a fresh thread: its entropy and    ^
//!                               |  its clocks are the run's           | accepts, reads, writes,
//!                               +- net: turmoil ----------------------+ logs, what clients see
//!                                    server: busline::server::serve
//!                                    zones:  clients with real WebSocket framing
//! ```
//!
//! The modules, in reading order:
//!
//! - [`plan`]: what will happen, as data; `scenario`: how a seed becomes one.
//! - [`run`]: carries a plan out.
//! - [`net`]: the network between the server and the zones of its clients.
//! - [`entropy`] and [`rt`]: where randomness and time come from.
//! - [`trace`]: what happened, as data.
//! - [`checker`] and [`report`]: whether that was right, in words and as a page.
//! - [`kit`]: for users of busline, who test services of their own.
//! - [`shrink`] and [`plan_file`]: a plan that fails, made small and kept.
#![deny(unsafe_code)]

mod backend;
mod call_marks;
pub mod calls;
pub mod checker;
mod client;
pub mod core;
mod diary;
pub mod entropy;
mod frames;
mod hall;
mod host;
mod inbound;
mod journal;
mod journal_marks;
pub mod kit;
pub mod marks;
pub mod net;
mod past;
mod places;
pub mod plan;
pub mod plan_file;
pub mod process;
mod raw;
pub mod report;
pub mod rng;
mod room_marks;
pub mod rooms;
pub mod rt;
pub mod run;
pub mod scenario;
pub mod script;
mod shared;
pub mod shrink;
mod speech;
pub mod swarm;
pub mod trace;
pub mod wild;

pub use crate::plan::Plan;
pub use crate::report::{Report, scenario};
pub use crate::trace::Trace;
