//! Any arguments: taken, or refused with a word.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::config::fuzz(data));
