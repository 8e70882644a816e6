//! Any arguments: taken, or refused with a word.
#![no_main]

#[path = "../../tests/model/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz(data));
