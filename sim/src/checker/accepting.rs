//! Accepting: a system without file descriptors is neither asked without pause nor given up.

use super::{Breach, Checker, History, Life};
use crate::trace::Event;

/// Failures to accept within a second that show that nothing waits between them.
const SPINS: usize = 12;

/// The longest pause before a connection is accepted that could be, in microseconds.
const PAUSE: u64 = 250_000;

/// The bytes of a handshake, those of the request and those of the response.
const HANDSHAKE_BYTES: u64 = 600;

/// What a handshake takes over the smallest buffers beside that, in microseconds.
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
            let Some(by) = served_by(history, life) else {
                continue;
            };
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

/// By when a client is served that met a shortage of descriptors; `None` if it met none.
fn served_by(history: &History<'_>, life: &Life) -> Option<u64> {
    let asked = life.connecting;
    let met = history.exhausted_until(asked, asked + history.one_way())?;
    let crossing = match history.is_wide {
        true => 0,
        false => NARROW + history.crossing(HANDSHAKE_BYTES),
    };
    // There and back for the connection, and again for the request.
    let takes = PAUSE + 4 * history.one_way() + crossing + history.grace;
    let mut since = met;
    loop {
        let by = since.saturating_add(takes);
        // A shortage or a hold that falls into this time begins it anew.
        let shortage = history.exhausted_until(since, by);
        let hold = history.held_until(life.zone, since, by);
        match shortage.max(hold) {
            Some(over) if over > since => since = over,
            Some(_) | None => return Some(by),
        }
    }
}
