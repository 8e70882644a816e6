//! Clients, time and instances in any order, against the count of leases.
#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| model::registry::fuzz(data));
