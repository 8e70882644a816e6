//! Deadlines: a connection that misses one is closed then, and no other is.

use super::conns::Conn;
use super::wild::crashes;
use super::{Breach, Checker, History, Life};
use crate::frames::Seen;
use crate::inbound::inbound;
use crate::trace::Ending;
use crate::wild::{Pace, Wild};
use busline::limits::{KeepalivePolicy, Limits};

/// RFC 6455 7.4.1: what the server could not do, here to hear an answer.
const SILENT: u16 = 1011;

/// A connection is answered, or dropped, within the time for a handshake; one that takes nothing
/// is dropped within the time for a write, one that says nothing within that of the keepalive, one
/// that is closed within the time for that. A polite client on a sound link is never dropped.
pub struct Deadlines;

impl Checker for Deadlines {
    fn name(&self) -> &'static str {
        "deadlines"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let times = Times::of(history);
        let end = history.epoch().last().map_or(0, |entry| entry.t);
        // The rule `called` judges those of backends.
        let of_clients = history.conns().filter(|(_, conn)| !conn.is_call());
        for (number, conn) in of_clients {
            if let Some((t, last)) = times.silenced_early(conn) {
                let text =
                    format!("connection {number} was closed with 1011, and spoke at {last} us");
                return Err(Breach::new(t, text));
            }
            for (what, from, within) in times.of_conn(conn, end) {
                let by = from.saturating_add(within);
                let done = conn.dropped.unwrap_or(u64::MAX);
                if by < end && done > by {
                    let text = format!("connection {number} {what} since {from} us, and is there");
                    return Err(Breach::new(by, text));
                }
            }
        }
        for (client, life) in &history.clients {
            if let Some((t, Some(SILENT))) = life.closed
                && is_sound(history, &times, life)
                && !crashes(&life.service)
                && life.leaving.is_none()
            {
                return Err(Breach::new(
                    t,
                    format!("client {client} was taken for dead"),
                ));
            }
            if let Some((t, Ending::Broken)) = life.ended
                && is_sound(history, &times, life)
                && life.closed.is_none()
            {
                return Err(Breach::new(t, format!("client {client} was dropped")));
            }
        }
        Ok(())
    }
}

/// A client that has done nothing to be dropped for.
fn is_sound(history: &History<'_>, times: &Times, life: &Life) -> bool {
    // Its answer to a ping comes back in time.
    let round = 2 * history.one_way() + times.grace;
    life.is_polite() && history.is_wide && !history.is_hurt(life) && round < times.pong
}

/// The limits of a run in microseconds, each with what a network adds.
struct Times {
    handshake: u64,
    write: u64,
    close: u64,
    silence: u64,
    /// Of silence before a ping.
    interval: u64,
    /// For the answer to a ping.
    pong: u64,
    grace: u64,
    /// What is set, where a client that sends more messages than it may waits.
    pacing: Option<(Wild, Pace)>,
}

impl Times {
    fn of(history: &History<'_>) -> Self {
        let limits = match &history.wild {
            None => Limits::default(),
            Some(wild) => wild.limits(),
        };
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let grace = history.grace;
        let KeepalivePolicy {
            interval,
            pong_timeout,
        } = limits.keepalive;
        let close = micros(limits.close_timeout) + grace;
        let write = micros(limits.write_timeout) + grace;
        // What waits for its service is not heard meanwhile, and what waits for the socket cannot
        // be asked.
        let excused = micros(limits.accept_timeout) + write + close;
        Self {
            handshake: micros(limits.handshake_timeout) + grace,
            write,
            close,
            silence: micros(interval) + micros(pong_timeout) + excused,
            interval: micros(interval),
            pong: micros(pong_timeout),
            grace,
            pacing: pacing(history),
        }
    }

    /// When the connection was closed as silent, and when it had said something last, if it had not
    /// left a ping after that unanswered.
    fn silenced_early(&self, conn: &Conn<'_>) -> Option<(u64, u64)> {
        let (t, _) = conn.closed().filter(|(_, code)| *code == Some(SILENT))?;
        // Clients of this service are closed so where it crashes, and any client's own code is
        // sent back.
        if conn.may_crash() || conn.has_closed() {
            return None;
        }
        let reads = conn.reads.iter().map(|(read, _)| *read);
        let last = reads.take_while(|read| *read < t).last()?;
        let last = last.max(conn.answered()?);
        let is_asked = |(at, seen): &(u64, Seen)| {
            matches!(seen, Seen::Ping(_)) && *at >= last + self.interval && t >= at + self.pong
        };
        let was_asked = conn.said().seen.iter().any(is_asked);
        (!was_asked).then_some((t, last))
    }

    /// How long the connection's messages take at the rate they may have: while those that were
    /// read wait for it, nothing is heard, and silence does not begin.
    fn paced(&self, conn: &Conn<'_>) -> u64 {
        let Some((wild, pace)) = &self.pacing else {
            return 0;
        };
        let messages = inbound(&conn.asked().bytes, wild.message_bytes, conn.said().speech);
        messages.len() as u64 * 1_000_000 / pace.per_second.max(1)
    }

    /// What the connection waited for, since when, and how long it may.
    fn of_conn(&self, conn: &Conn<'_>, end: u64) -> Vec<(&'static str, u64, u64)> {
        let mut waits = Vec::new();
        match conn.answered() {
            None => waits.push(("has no answer", conn.accepted, self.handshake)),
            Some(t) if t > conn.accepted + self.handshake => {
                waits.push(("had no answer", conn.accepted, self.handshake));
            }
            // To take the response it has as long as to make the request.
            Some(_) if !conn.is_upgraded() => {
                let longest = 2 * self.handshake;
                waits.push(("does not take its response", conn.accepted, longest));
            }
            Some(_) => waits.extend(self.of_session(conn, end)),
        }
        waits
    }

    fn of_session(&self, conn: &Conn<'_>, end: u64) -> Vec<(&'static str, u64, u64)> {
        let mut waits = Vec::new();
        let upgraded = conn.said().seen.first().map_or(u64::MAX, |(t, _)| *t);
        for (from, to) in &conn.blocks {
            if *from < upgraded && to.unwrap_or(u64::MAX) > conn.accepted + 2 * self.handshake {
                waits.push((
                    "does not take its response",
                    conn.accepted,
                    2 * self.handshake,
                ));
            }
            // One that closes meanwhile has the time for that on top.
            if *from >= upgraded && to.unwrap_or(u64::MAX) > from + self.write + self.close {
                waits.push(("takes nothing", *from, self.write + self.close));
            }
        }
        if let Some((t, _)) = conn.closed() {
            waits.push(("was closed", t, self.close));
        }
        // A ping waits for a socket that takes only a part of a long message at a time.
        let taken = conn.blocks.iter().filter_map(|(_, to)| *to);
        let mut heard: Vec<u64> = conn.reads.iter().map(|(t, _)| *t).collect();
        heard.extend(taken.chain([end]));
        heard.sort_unstable();
        let mut last = upgraded;
        let silence = self.silence + self.paced(conn);
        for t in heard {
            if t > last.saturating_add(silence) && conn.shutdown.is_none() {
                waits.push(("says nothing", last, silence));
            }
            last = t.max(upgraded);
        }
        waits
    }
}

/// The rate of messages that makes clients wait, if there is one.
fn pacing(history: &History<'_>) -> Option<(Wild, Pace)> {
    let wild = history.wild.clone().filter(Wild::makes_wait)?;
    let pace = wild.inbound?.messages?;
    Some((wild, pace))
}
