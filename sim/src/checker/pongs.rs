//! Pongs: a ping is answered at once.

use super::conns::Conn;
use super::{Breach, Checker, History};
use crate::frames::Seen;
use crate::inbound::pings;
use crate::wild::Wild;

/// A connection whose socket always takes what is written, and whose service takes every message,
/// has a pong for its last ping as soon as that is read.
pub struct Pongs;

impl Checker for Pongs {
    fn name(&self) -> &'static str {
        "pongs"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        if history.wild.as_ref().is_some_and(Wild::makes_wait) {
            // A ping waits behind what may not be read yet.
            return Ok(());
        }
        let end = history.epoch().last().map_or(0, |entry| entry.t);
        for (number, conn) in history.conns() {
            let Some(pinged) = last_ping(conn) else {
                continue;
            };
            let by = pinged + history.grace;
            let ends = [
                conn.closed().map(|(t, _)| t),
                conn.shutdown,
                conn.failed,
                conn.dropped,
                Some(end),
            ];
            let is_over = ends.into_iter().flatten().any(|t| t <= by);
            let is_pong = |(t, seen): &(u64, Seen)| *seen == Seen::Pong && *t >= pinged;
            if !is_over && !conn.said().seen.iter().any(is_pong) {
                let text = format!("connection {number} has no answer to its ping");
                return Err(Breach::new(pinged, text));
            }
        }
        Ok(())
    }
}

/// When the last ping was read of a connection that must answer it.
fn last_ping(conn: &Conn<'_>) -> Option<u64> {
    // What `script` has not taken holds up what follows.
    if conn.may_crash() || !conn.is_upgraded() || !conn.blocks.is_empty() {
        return None;
    }
    let asked = &conn.asked().bytes;
    let read: usize = conn.reads.iter().map(|(_, data)| data.len()).sum();
    let end = read - asked.len() + pings(asked)?;
    let mut sum = 0;
    let mut times = conn.reads.iter().map(|(t, data)| {
        sum += data.len();
        (*t, sum)
    });
    times.find_map(|(t, sum)| (sum >= end).then_some(t))
}
