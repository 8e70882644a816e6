//! Liveness: when the faults are over, new clients are served.

use super::CRASHES;
use crate::checker::{Breach, Checker, History, Scope};
use crate::swarm::PROBES;

/// How long a handshake may take over a healthy link, however small its buffers.
const CONNECTS: u64 = 8_000_000;

/// How long until it is served.
const SERVED: u64 = 20_000_000;

/// A client that comes after the faults is connected, and its service serves it; `script` may
/// still have orders to carry out.
pub struct Liveness;

impl Checker for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn scope(&self) -> Scope {
        Scope::Wild
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let lost = history.held.is_some_and(|held| held.lost_lagged > 0);
        // Where sessions are scarce, those that are there may take them all.
        let sessions = history.wild.as_ref().map_or(0, |wild| wild.sessions);
        if sessions < history.clients.len() {
            return Ok(());
        }
        for (client, life) in history.clients.range(PROBES..) {
            let service = &life.service;
            if service == CRASHES {
                continue;
            }
            let by = life.connecting + CONNECTS;
            if history.until_drained() > by && life.connected.is_none_or(|t| t > by) {
                let text = format!("client {client} of {service} is not connected");
                return Err(Breach::new(by, text));
            }
            let by = life.connecting + SERVED;
            let is_excused = lost && service == "ping";
            let first = life.received.first();
            let is_there = history.until(life) > by;
            if is_there && !is_excused && first.is_none_or(|said| said.t > by) {
                let text = format!("client {client} of {service} has received nothing");
                return Err(Breach::new(by, text));
            }
        }
        Ok(())
    }
}
