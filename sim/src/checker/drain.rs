//! Drain: nobody is let in any more, everybody is told, and it ends in time.

use super::{Breach, Checker, History};
use crate::trace::Event;
use busline::limits::{LifecyclePolicy, Limits};

/// After the order to shut down no connection is upgraded; each session is told 1001, unless it was
/// closing already or takes nothing; and `serve` returns as soon as sessions may take to close and
/// services to stop.
pub struct Drain;

impl Checker for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(drained) = history.drained.filter(|t| *t >= history.started()) else {
            return Ok(());
        };
        for (number, conn) in history.conns() {
            let Some(answered) = conn.answered().filter(|_| conn.is_upgraded()) else {
                continue;
            };
            if answered > drained + history.grace {
                let text = format!("connection {number} was upgraded after the order to shut down");
                return Err(Breach::new(answered, text));
            }
            let dropped = conn.dropped.unwrap_or(u64::MAX);
            let code = conn.closed().map(|(_, code)| code);
            // What was written is lost if it fails, and may be stuck in a socket that is full.
            let is_told = code.is_some() || conn.failed.is_some() || is_stuck(&conn.blocks);
            let is_there = answered < drained && dropped > drained + history.grace;
            if is_there && !is_told && !has_ended(history, number) {
                let text = format!("connection {number} was not told that the server goes");
                return Err(Breach::new(drained, text));
            }
        }
        in_time(history, drained)
    }
}

fn is_stuck(blocks: &[(u64, Option<u64>)]) -> bool {
    blocks.last().is_some_and(|(_, end)| end.is_none())
}

/// Whether the peer ended its side before it could be told.
fn has_ended(history: &History<'_>, number: u32) -> bool {
    let ended = |event: &Event| matches!(event, Event::ReadEnd { conn } if *conn == number);
    history.epoch().iter().any(|entry| ended(&entry.event))
}

fn in_time(history: &History<'_>, drained: u64) -> Result<(), Breach> {
    let (limits, policy) = match &history.wild {
        None => (Limits::default(), LifecyclePolicy::default()),
        Some(wild) => (wild.limits(), wild.lifecycle()),
    };
    let longest = limits.close_timeout + policy.stop_grace;
    let by = drained + u64::try_from(longest.as_micros()).unwrap_or(u64::MAX) + history.grace;
    let mut epoch = history.epoch().iter();
    let served = epoch.find(|entry| matches!(entry.event, Event::Served { .. }));
    let end = history.entries.last().map_or(0, |entry| entry.t);
    if !history.is_down() && served.map_or(end, |entry| entry.t) > by {
        return Err(Breach::new(by, "serve has not returned in time"));
    }
    Ok(())
}
