//! `timenow`: the wall clock, every 2 s from the start of the service, without drift.

use jiff::Timestamp;

use super::history::{History, Life, Said};
use super::{Breach, Checker, Scope};
use crate::rt::WALL_START;

const SERVICE: &str = "timenow";
const PERIOD: u64 = 2_000_000;

/// What a client receives is a tick of the instance that runs, told as the wall clock was at that
/// tick; no tick is missing while it is connected, and the first is told to the first client.
pub struct Timenow;

impl Checker for Timenow {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn scope(&self) -> Scope {
        Scope::Calm
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let starts: Vec<u64> = starts(history);
        let counted = history.held.map_or(0, |held| held.lost_lagged);
        for (client, life) in history.clients_of(SERVICE) {
            let mut ticks: Vec<u64> = Vec::new();
            for said in &life.received {
                let told = tick(history, &starts, (life, said))
                    .map_err(|text| Breach::new(said.t, format!("client {client}: {text}")))?;
                if ticks.last().is_some_and(|last| told <= *last) {
                    let text = format!("client {client} was told {} again", said.text);
                    return Err(Breach::new(said.t, text));
                }
                ticks.push(told);
            }
            if counted == 0 {
                complete(history, &starts, life, &ticks).map_err(|tick| {
                    let text = format!("client {client} was not told the tick of {tick} us");
                    Breach::new(tick, text)
                })?;
            }
        }
        first_ticks(history, &starts)
    }
}

/// When instances were started.
fn starts(history: &History<'_>) -> Vec<u64> {
    let started = history.logged(SERVICE, "service started");
    started.map(|(t, _)| t).collect()
}

/// The tick that a client was told: the time at which it was due.
fn tick(
    history: &History<'_>,
    starts: &[u64],
    (life, said): (&Life, &Said),
) -> Result<u64, String> {
    let timestamp: Timestamp = said
        .text
        .parse()
        .map_err(|error| format!("`{}` is no RFC 3339 time: {error}", said.text))?;
    if timestamp.to_string() != said.text {
        return Err(format!("`{}` is not in whole seconds of UTC", said.text));
    }
    let wall = timestamp.as_second() - WALL_START.as_secs().cast_signed();
    let told = u64::try_from(wall).map_err(|_| format!("{} is before the run", said.text))?;
    let fits = |(index, start): (usize, &u64)| {
        // The tick of this instance within the second that was told.
        let phase = start % 1_000_000;
        let tick = told * 1_000_000 + phase;
        let is_tick = tick >= *start && (tick - start).is_multiple_of(PERIOD);
        // What is held for long could as well be a tick of an instance that has ended.
        let is_tick = is_tick && starts.get(index + 1).is_none_or(|next| tick < *next);
        let in_time = tick <= said.t && said.t <= history.arrival(life.zone, tick);
        (is_tick && in_time).then_some(tick)
    };
    starts.iter().enumerate().find_map(fits).ok_or_else(|| {
        let starts: Vec<_> = starts.iter().map(ToString::to_string).collect();
        format!(
            "{} is no tick of an instance that arrives now; instances started at [{}] us",
            said.text,
            starts.join(", ")
        )
    })
}

/// No tick is missing: the first that is, if there is one.
fn complete(history: &History<'_>, starts: &[u64], life: &Life, told: &[u64]) -> Result<(), u64> {
    let Some(connected) = life.connected else {
        return Ok(());
    };
    // The instance that is there when the client is stays as long as the client does.
    let Some(start) = starts.iter().rev().find(|start| **start <= connected) else {
        return Ok(());
    };
    let gone = connected.saturating_sub(*start);
    let mut tick = start + gone.next_multiple_of(PERIOD);
    loop {
        let by = history.arrival(life.zone, tick);
        if by >= history.until(life) || history.is_cut(life, by) {
            return Ok(());
        }
        if told.binary_search(&tick).is_err() {
            return Err(tick);
        }
        tick += PERIOD;
    }
}

/// The first tick of each instance is told to a client that had asked for it before, at once.
fn first_ticks(history: &History<'_>, starts: &[u64]) -> Result<(), Breach> {
    for start in starts {
        let asked: Vec<_> = history
            .clients_of(SERVICE)
            .filter(|(_, life)| life.connecting <= *start)
            .filter(|(_, life)| life.connected.is_none_or(|t| t >= *start))
            .filter(|(_, life)| history.until(life) > *start)
            .collect();
        let sure = asked.iter().all(|(_, life)| {
            let by = history.arrival(life.zone, *start);
            !history.is_cut(life, by) && by < history.until(life)
        });
        let is_told = |life: &&Life| {
            let told = life.received.iter().map(|said| said.t);
            let by = |t: u64| t <= history.arrival(life.zone, *start);
            told.into_iter().any(|t| t >= *start && by(t))
        };
        if sure && !asked.iter().any(|(_, life)| is_told(life)) {
            let text = "nobody was told the first tick of the instance that was started";
            return Err(Breach::new(*start, text));
        }
    }
    Ok(())
}
