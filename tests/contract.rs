//! The contract suite of the bus, on the bus of this crate.

use busline::bus::{InMemoryMessageBus, contract};

#[test]
fn the_bus_in_memory_keeps_the_contract() {
    contract::check(&InMemoryMessageBus::new);
}
