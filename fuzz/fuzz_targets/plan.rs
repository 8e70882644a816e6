//! The whole server in the simulator: clients and faults as the bytes say, judged by every rule.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sim::swarm::guided::fuzz(data));
