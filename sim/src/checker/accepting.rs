//! Accepting: a system without file descriptors is neither asked without pause nor given up.

use super::{Breach, Checker, History};
use crate::trace::Event;

/// Failures to accept within a second that show that nothing waits between them.
const SPINS: usize = 12;

/// The longest pause before a connection is accepted that could be, in microseconds.
const PAUSE: u64 = 250_000;

/// What a handshake takes over the smallest buffers, in microseconds.
const NARROW: u64 = 8_000_000;

/// Failed accepts are some time apart, and who waited for one is served after the last.
pub struct Accepting;

impl Checker for Accepting {
    fn name(&self) -> &'static str {
        "accepting"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let failures = history.entries.iter();
        let failures = failures.filter(|entry| entry.event == Event::AcceptFailed);
        let failures: Vec<u64> = failures.map(|entry| entry.t).collect();
        for many in failures.windows(SPINS) {
            if many[SPINS - 1] - many[0] < 1_000_000 {
                let text = format!("{SPINS} accepts failed within a second");
                return Err(Breach::new(many[SPINS - 1], text));
            }
        }
        for (client, life) in &history.clients {
            if !life.is_polite() {
                continue;
            }
            let Some(end) = history.exhausted_at(life.connecting, history.one_way()) else {
                continue;
            };
            // There and back for the connection, and again for the request.
            let arrive = |t, _| history.arrival(life.zone, t);
            let arrived = (0..4).fold(end + PAUSE, arrive);
            let by = arrived + if history.is_wide { 0 } else { NARROW } + history.grace;
            if history.is_cut(life, by) {
                continue;
            }
            let refused = life.refused.as_ref().map(|(t, _)| *t);
            let served = life.connected.or(refused);
            let is_sure = history.until_drained() > by && life.gone() > by;
            if is_sure && served.is_none_or(|t| t > by) {
                let text = format!("client {client} was not accepted, descriptors or not");
                return Err(Breach::new(by, text));
            }
        }
        Ok(())
    }
}
