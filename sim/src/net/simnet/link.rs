//! The link between a zone and the server.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Event, Side};
use crate::net::Fault;
use crate::plan::{Network, Way};
use crate::wild::Tcp;

/// When something arrives, and its place among what arrives then.
pub(super) type Key = (Duration, u64);

/// What a link does at present.
pub(super) struct Link {
    /// Of one direction, at least and at most.
    pub(super) latency_ms: (u64, u64),
    /// Of each direction of each connection.
    pub(super) bytes_per_second: Option<u64>,
    /// What waits for the release, at the places it had; `None` while nothing is held.
    held: Option<BTreeMap<Key, Event>>,
    cut: Option<Way>,
}

impl Link {
    pub(super) fn new(network: &Network, tcp: &Tcp) -> Self {
        Self {
            latency_ms: (network.latency_ms_min, network.latency_ms_max),
            bytes_per_second: tcp.bytes_per_second,
            held: None,
            cut: None,
        }
    }

    /// Whether it loses what this side sends.
    pub(super) fn loses(&self, from: Side) -> bool {
        match self.cut {
            None => false,
            Some(Way::Both) => true,
            Some(Way::Down) => from == Side::Server,
            Some(Way::Up) => from == Side::Client,
        }
    }

    /// Keeps the event if the link is held, or gives it back.
    pub(super) fn hold(&mut self, key: Key, event: Event) -> Option<Event> {
        match &mut self.held {
            None => Some(event),
            Some(held) => {
                held.insert(key, event);
                None
            }
        }
    }

    /// Changes, and returns what is held no more.
    pub(super) fn strike(&mut self, fault: Fault) -> BTreeMap<Key, Event> {
        match fault {
            Fault::Bandwidth(rate) => self.bytes_per_second = rate.map(|rate| rate.max(1)),
            Fault::Hold => drop(self.held.get_or_insert_default()),
            Fault::Latency(least, most) => self.latency_ms = (least, most.max(least)),
            Fault::Partition(way) => self.cut = Some(way),
            Fault::Release => return self.held.take().unwrap_or_default(),
            Fault::Repair => self.cut = None,
        }
        BTreeMap::new()
    }
}
