//! Any bytes of a client, cut anywhere: one verdict, bounded memory.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::wire::fuzz(data));
