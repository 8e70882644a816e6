//! Bounds: never exceeded, and nobody is refused below one.

use super::{Breach, Checker, History};
use crate::trace::{Entry, Event, Held};

/// No more sessions at once than may be, and none refused for their number while there is room; no
/// message that is longer than may be; none lost from a window that could hold them all.
pub struct Bounds;

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(wild) = &history.wild else {
            return Ok(());
        };
        let sessions = Sessions::of(history);
        sessions.kept(wild.sessions)?;
        sessions.given(history, wild.sessions)?;
        for (client, life) in &history.clients {
            let too_long = |text: &str| text.len() > wild.message_bytes.max(SCRIPT_SAYS.len());
            if let Some(said) = life.received.iter().find(|said| too_long(&said.text)) {
                let bytes = said.text.len();
                let text = format!("client {client} received a message of {bytes} bytes");
                return Err(Breach::new(said.t, text));
            }
        }
        let end = history.entries.last().map_or(0, |entry| entry.t);
        // A client that recovers has the history for its window, which may be smaller.
        let is_judged = wild.journal.is_none();
        match history.held {
            Some(held)
                if is_judged
                    && held.lost_lagged > 0
                    && held.published <= wild.window_messages as u64
                    && published_bytes(held) <= wild.window_bytes as u64 =>
            {
                let text = format!(
                    "{} messages were lost of {}, and a window holds {}",
                    held.lost_lagged, held.published, wild.window_messages
                );
                Err(Breach::new(end, text))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What `script` says of itself, longer than the smallest messages.
const SCRIPT_SAYS: &str = "still there";

/// The longest message that a service publishes unasked, in bytes: `timenow`'s.
const UNASKED_BYTES: u64 = "2025-12-22T10:30:00Z".len() as u64;

/// The most bytes of all that was published: what clients said, to their service and by it, and as
/// if every message were one that a service publishes unasked.
fn published_bytes(held: &Held) -> u64 {
    held.bytes_in * 2 + held.published * UNASKED_BYTES
}

/// When rights to a session were taken, and given back: the time, and the place in the trace, as
/// much happens at one time.
struct Sessions {
    opened: Vec<(u64, u64)>,
    closed: Vec<(u64, u64)>,
    /// Upgrades that came to nothing.
    failed: Vec<(u64, u64)>,
}

impl Sessions {
    fn of(history: &History<'_>) -> Self {
        let logged = |words: &[&str]| {
            let is_it = |entry: &&Entry| {
                let Event::Log { message, .. } = &entry.event else {
                    return false;
                };
                words.contains(&message.as_str())
            };
            let entries = history.epoch().iter().filter(is_it);
            entries.map(|entry| (entry.t, entry.n)).collect()
        };
        Self {
            opened: logged(&["session opened"]),
            closed: logged(&["session closed"]),
            failed: logged(&["upgrade failed", "upgrade took too long"]),
        }
    }

    /// Never more than there may be.
    fn kept(&self, most: usize) -> Result<(), Breach> {
        for (place, (t, n)) in self.opened.iter().enumerate() {
            let there = place + 1 - self.closed.partition_point(|(_, closed)| closed < n);
            if there > most {
                let text = format!("{there} sessions are there, and {most} may be");
                return Err(Breach::new(*t, text));
            }
        }
        Ok(())
    }

    /// A refusal for want of room was without any.
    fn given(&self, history: &History<'_>, most: usize) -> Result<(), Breach> {
        let upgraded = history.conns().filter(|(_, conn)| conn.is_upgraded());
        let mut admitted: Vec<u64> = upgraded.filter_map(|(_, conn)| conn.answered()).collect();
        admitted.sort_unstable();
        for (number, conn) in history.conns() {
            let Some(t) = conn.answered().filter(|_| conn.status() == Some(503)) else {
                continue;
            };
            let written = conn.written();
            if !String::from_utf8_lossy(&written).contains("sessions are taken") {
                continue;
            }
            let closed = self.closed.partition_point(|(time, _)| *time < t);
            let taken = admitted.partition_point(|time| *time <= t) - closed;
            // Of an upgrade that failed no answer may have been written.
            if taken + self.failed.len() < most {
                let text =
                    format!("connection {number} was refused with {taken} sessions of {most}");
                return Err(Breach::new(t, text));
            }
        }
        Ok(())
    }
}
