//! Readers of events that are cut off at any byte and come back.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::streams::fuzz(data));
