//! Drain: nobody is let in any more, everybody is told, and it ends in time.

use std::time::Duration;

use super::conns::Conn;
use super::{Breach, Checker, History, Life};
use crate::trace::Event;
use crate::wild::Wild;
use busline::limits::{LifecyclePolicy, Limits};

/// After the order to shut down no connection is upgraded; each session is told 1001, unless it was
/// closing already or takes nothing; and `serve` returns as soon as sessions may take to close,
/// services to stop and clients to take their responses. Where sessions leave one after the other,
/// none leaves too early.
pub struct Drain;

/// RFC 6455 7.4.1: the server goes away.
const GOING_AWAY: u16 = 1001;

/// A drain of this time is not cut short by the end of its patience, in seconds.
const PACED_SECONDS: usize = 25;

impl Checker for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(drained) = history.drained.filter(|t| *t >= history.started()) else {
            return Ok(());
        };
        let mut silent = dropped_later(history, drained);
        for (number, conn) in history.conns() {
            let Some(answered) = conn.answered().filter(|_| conn.is_upgraded()) else {
                continue;
            };
            if answered > drained + history.grace {
                if conn.may_be_refused() {
                    continue;
                }
                let text = format!("connection {number} was upgraded after the order to shut down");
                return Err(Breach::new(answered, text));
            }
            let dropped = conn.dropped.unwrap_or(u64::MAX);
            let code = conn.closed().map(|(_, code)| code);
            // What was written is lost if it fails, and may be stuck in a socket that is full.
            let is_told = code.is_some() || conn.failed.is_some() || is_stuck(&conn.blocks);
            let is_there = answered < drained && dropped > drained + history.grace;
            if is_there && !is_told && !has_ended(history, number) {
                // Not before its moment, and it may be gone by then.
                if let Some(fewer) = silent.checked_sub(1) {
                    silent = fewer;
                    continue;
                }
                let text = format!("connection {number} was not told that the server goes");
                return Err(Breach::new(drained, text));
            }
        }
        paced(history, drained)?;
        in_time(history, drained)
    }
}

fn is_stuck(blocks: &[(u64, Option<u64>)]) -> bool {
    blocks.last().is_some_and(|(_, end)| end.is_none())
}

/// Sessions that were dropped without a word while others left, as one leaves after the other.
fn dropped_later(history: &History<'_>, drained: u64) -> usize {
    let is_dropped = |event: &Event| {
        let Event::Log {
            message, fields, ..
        } = event
        else {
            return false;
        };
        let cause = fields.get("cause").map_or("", String::as_str);
        let silently = ["lost", "silent", "unwritable"];
        message == "session closed" && silently.iter().any(|of| cause.starts_with(of))
    };
    let later = history.epoch().iter().filter(|entry| entry.t >= drained);
    later.filter(|entry| is_dropped(&entry.event)).count()
}

/// Whether the peer ended its side before it could be told.
fn has_ended(history: &History<'_>, number: u32) -> bool {
    let ended = |event: &Event| matches!(event, Event::ReadEnd { conn } if *conn == number);
    history.epoch().iter().any(|entry| ended(&entry.event))
}

/// The longest time until the last session leaves: those who miss their moment, because their
/// services still deal with what had arrived, leave after all others.
fn spread(history: &History<'_>, limits: &Limits) -> Duration {
    let sessions = history.clients.len().try_into().unwrap_or(u32::MAX);
    let spread = Duration::from_secs(2) * sessions / limits.drain.per_second.get();
    let spread = spread + limits.arrivals_timeout();
    let most = limits
        .drain_timeout
        .saturating_sub(2 * limits.close_timeout);
    spread.min(most)
}

/// No second has more sessions that leave than may.
///
/// Clients of `script` are not judged: it dozes, and a close frame follows the moment of its
/// session by the time in which the service still answers. Nor are clients that have to wait for
/// their rate: a session first hands over the messages that it has at its moment.
fn paced(history: &History<'_>, drained: u64) -> Result<(), Breach> {
    let Some(most) = history.wild.as_ref().and_then(|wild| wild.drain_per_second) else {
        return Ok(());
    };
    if history.wild.as_ref().is_some_and(Wild::makes_wait) {
        return Ok(());
    }
    // Whose own code is 1001 may be answered with it; and too many leave faster than that.
    let is_own = |life: &Life| life.leaving.is_some_and(|(_, code)| code == GOING_AWAY);
    let is_hurried = history.clients.len() > PACED_SECONDS * most as usize;
    if is_hurried || history.clients.values().any(is_own) {
        return Ok(());
    }
    let is_prompt = |conn: &Conn<'_>| conn.blocks.is_empty() && !conn.may_crash();
    let mut told: Vec<u64> = Vec::new();
    for (_, conn) in history.conns().filter(|(_, conn)| is_prompt(conn)) {
        let at = conn
            .closed()
            .filter(|(t, code)| *t >= drained && *code == Some(GOING_AWAY));
        told.extend(at.map(|(t, _)| t));
    }
    told.sort_unstable();
    for many in told.windows(most as usize + 1) {
        if many[most as usize] + history.grace < many[0] + 1_000_000 {
            let text = format!("{} sessions left within a second, {most} may", most + 1);
            return Err(Breach::new(many[0], text));
        }
    }
    Ok(())
}

/// Whether a client that was let in before the drain took its response after that, or never.
fn has_late_upgrade(history: &History<'_>, drained: u64) -> bool {
    let is_late = |event: &Event| {
        let Event::Log { message, .. } = event else {
            return false;
        };
        let taken = ["session opened", "upgrade failed", "upgrade took too long"];
        taken.contains(&message.as_str())
    };
    let mut later = history.epoch().iter().filter(|entry| entry.t >= drained);
    later.any(|entry| is_late(&entry.event))
}

fn in_time(history: &History<'_>, drained: u64) -> Result<(), Breach> {
    let (limits, policy) = match &history.wild {
        None => (Limits::default(), LifecyclePolicy::default()),
        Some(wild) => (wild.limits(), wild.lifecycle()),
    };
    let mut longest = limits.close_timeout + policy.stop_grace + spread(history, &limits);
    if has_late_upgrade(history, drained) {
        // Who does not take the response it was promised at once has its own time for that.
        longest += 2 * limits.handshake_timeout;
    }
    let by = drained + u64::try_from(longest.as_micros()).unwrap_or(u64::MAX) + history.grace;
    let mut epoch = history.epoch().iter();
    let served = epoch.find(|entry| matches!(entry.event, Event::Served { .. }));
    let end = history.entries.last().map_or(0, |entry| entry.t);
    if !history.is_down() && served.map_or(end, |entry| entry.t) > by {
        return Err(Breach::new(by, "serve has not returned in time"));
    }
    Ok(())
}
