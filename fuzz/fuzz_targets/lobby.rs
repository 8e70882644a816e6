//! Rooms whose clients come, speak and die in any order, against the events that each is told.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::lobby::fuzz(data));
