//! A session whose peer, service and socket do anything.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::session::fuzz(data));
