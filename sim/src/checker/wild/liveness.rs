//! Liveness: when the faults are over, new clients are served.

use super::crashes;
use crate::checker::{Breach, Checker, History, Scope};
use crate::swarm::PROBES;
use crate::trace::Event;
use crate::wild::Wild;

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
        let lost = history.helds.iter().any(|held| held.lost_lagged > 0);
        let Some(wild) = &history.wild else {
            return Ok(());
        };
        // Where sessions are scarce, clients may take them all, one for each time that they tried;
        // and where no server was started again, there is none.
        if wild.sessions < history.attempts || history.is_down() {
            return Ok(());
        }
        // Handshakes cross the smallest buffers in less.
        let busy = backlog(history, wild);
        let served = wild.served_ms * 1000 + history.slack + busy;
        let connects = wild.served_ms * 400 + history.slack + busy;
        for (client, life) in history.clients.range(PROBES..) {
            let service = &life.service;
            if crashes(service) || history.is_hurt(life) {
                continue;
            }
            let by = life.connecting + connects;
            if history.until_drained() > by && life.connected.is_none_or(|t| t > by) {
                let text = format!("client {client} of {service} is not connected");
                return Err(Breach::new(by, text));
            }
            let by = life.connecting + served;
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

/// How long a link may be busy with what was written to others before: by its rate, and by its
/// window, which lets no more than that through in each turn of the link.
fn backlog(history: &History<'_>, wild: &Wild) -> u64 {
    let written = history.epoch().iter().filter_map(|entry| {
        if let Event::Written { data, .. } = &entry.event {
            return Some(data.len() as u64);
        }
        None
    });
    let written = written.sum::<u64>();
    let turns = written / (wild.tcp.receive_bytes as u64).max(1);
    let by_window = turns * 2 * history.one_way();
    let by_rate = |rate: u64| written * 1_000_000 / rate.max(1);
    by_window + wild.tcp.bytes_per_second.map_or(0, by_rate)
}
