//! loom models of the registry: clients that come and go against an instance that starts and ends.
//!
//! The model's main thread polls the tasks that the registry spawns; a timer fires at its first
//! poll and advances the clock. Each model names the bug it catches.

mod clients;
mod members;
mod rooms;
mod world;
