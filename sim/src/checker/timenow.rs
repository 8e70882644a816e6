//! `timenow`: the wall clock, every 2 s from the start of the service, without drift.

use jiff::Timestamp;

use super::history::{History, Life, Said, lifecycle};
use super::{Breach, Checker};
use crate::plan::Action;
use crate::rt::WALL_START;
use crate::trace::Event;

const SERVICE: &str = "timenow";
const PERIOD: u64 = 2_000_000;

/// What a client receives are ticks of the instances that run, in order and none twice, each told
/// as the wall clock was at that tick, whoever has set it; ticks are whole periods of the monotonic
/// clock after the start of their instance, however long it runs. Between two ticks that a client
/// was told none is missing that was not counted as lost.
///
/// Over a sound link none comes late, none is missing while the client is connected, and the first
/// is told to the first client.
pub struct Timenow;

impl Checker for Timenow {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let instances = Instance::all(history);
        let lost = history.lost();
        let mut missing = 0;
        for (client, life) in history.clients_of(SERVICE) {
            // What a clock that is set back shows twice was told the first time, or the last.
            let told = |first| ticks(history, &instances, life, first);
            let ticks = told(Which::Last)
                .or_else(|_| told(Which::First))
                .map_err(|(t, text)| Breach::new(t, format!("client {client} {text}")))?;
            if lost == 0 && is_sound(history, life) {
                complete(history, &instances, life, &ticks).map_err(|tick| {
                    let text = format!("client {client} was not told the tick of {tick} us");
                    Breach::new(tick, text)
                })?;
            }
            missing += ticks
                .windows(2)
                .map(|pair| gap(&instances, pair))
                .sum::<u64>();
            if missing > lost {
                let t = ticks.last().copied().unwrap_or(0);
                let text = format!("client {client} misses ticks: {missing} in all, {lost} lost");
                return Err(Breach::new(t, text));
            }
        }
        if history.wild.is_none() {
            first_ticks(history, &instances)?;
        }
        Ok(())
    }
}

/// Whether nothing but the latency of its link keeps a client from what it is told.
fn is_sound(history: &History<'_>, life: &Life) -> bool {
    history.is_wide && life.is_polite() && (history.wild.is_none() || !history.is_hurt(life))
}

/// One run of the service.
#[derive(Clone, Copy, Debug)]
struct Instance {
    start: u64,
    /// When it was gone.
    end: u64,
}

impl Instance {
    /// All that were started, in order.
    fn all(history: &History<'_>) -> Vec<Self> {
        let mut instances: Vec<Self> = Vec::new();
        let mut last = None;
        for entry in history.entries {
            if let Event::Acted {
                action: Action::Crash | Action::PowerLoss,
            } = &entry.event
            {
                // Whatever ran was killed with the server, and the next counts from 1.
                end(&mut instances, entry.t);
                last = None;
            }
            if entry.event == Event::Started {
                // So it does after a planned restart.
                last = None;
            }
            let Some((SERVICE, message, generation)) = lifecycle(&entry.event) else {
                continue;
            };
            match message {
                // An instance that lingered is started once only.
                "service started" if last != Some(generation) => {
                    last = Some(generation);
                    instances.push(Self {
                        start: entry.t,
                        end: u64::MAX,
                    });
                }
                "instance returned" | "instance ended" => end(&mut instances, entry.t),
                _ => {}
            }
        }
        instances
    }

    /// Its ticks between two times.
    fn ticks(self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let first = from.max(self.start) - self.start;
        let first = self.start + first.next_multiple_of(PERIOD);
        let last = to.min(self.end);
        let ticks = std::iter::successors(Some(first), |tick| tick.checked_add(PERIOD));
        ticks.take_while(move |tick| *tick <= last)
    }
}

fn end(instances: &mut [Instance], t: u64) {
    if let Some(last) = instances.last_mut().filter(|last| last.end == u64::MAX) {
        last.end = t;
    }
}

/// The ticks that a client was told: the times at which they were due.
fn ticks(
    history: &History<'_>,
    instances: &[Instance],
    life: &Life,
    first: Which,
) -> Result<Vec<u64>, (u64, String)> {
    let mut ticks: Vec<u64> = Vec::new();
    for (place, said) in life.received.iter().enumerate() {
        let after = ticks.last().map_or(0, |last| last + 1);
        let before = place.checked_sub(1).map(|before| &life.received[before]);
        let next = life.received.get(place + 1);
        // When it came, one instance may just have ended and another begun in the same second:
        // what it is told once is of the later one.
        let which = match before {
            None if next.is_none_or(|next| next.text != said.text) => first,
            None | Some(_) => Which::First,
        };
        let tick = tick(history, instances, (life, said), (after, which)).map_err(|text| {
            let is_again = before.is_some_and(|before| before.text == said.text);
            let again = format!("was told {} again", said.text);
            (said.t, if is_again { again } else { text })
        })?;
        ticks.push(tick);
    }
    Ok(ticks)
}

/// Which of the ticks that could be meant is taken.
#[derive(Clone, Copy)]
enum Which {
    First,
    Last,
}

/// A tick from `after` on that could be told in these words, at this time.
fn tick(
    history: &History<'_>,
    instances: &[Instance],
    (life, said): (&Life, &Said),
    (after, which): (u64, Which),
) -> Result<u64, String> {
    let timestamp: Timestamp = said
        .text
        .parse()
        .map_err(|error| format!("`{}` is no RFC 3339 time: {error}", said.text))?;
    if timestamp.to_string() != said.text {
        return Err(format!("`{}` is not in whole seconds of UTC", said.text));
    }
    let second = timestamp.as_second() - WALL_START.as_secs().cast_signed();
    // In real time a tick is told a little after it is due.
    let shows = |tick: u64| {
        let walls = history.walls(tick, history.grace);
        walls.into_iter().any(|wall| {
            let late = wall + history.slack.cast_signed();
            (wall.div_euclid(1_000_000)..=late.div_euclid(1_000_000)).contains(&second)
        })
    };
    let is_in_time = |tick: u64| {
        let by = history.arrival(life.zone, tick);
        !is_sound(history, life) || said.t <= by.saturating_add(history.grace)
    };
    // A tick from before it was connected is not for it.
    let from = after.max(life.connecting);
    let mut all = instances
        .iter()
        .flat_map(|instance| instance.ticks(from, said.t));
    let is_meant = |tick: &u64| shows(*tick) && is_in_time(*tick);
    let tick = match which {
        Which::First => all.find(is_meant),
        Which::Last => all.filter(is_meant).last(),
    };
    tick.ok_or_else(|| {
        let starts: Vec<_> = instances.iter().map(|i| i.start.to_string()).collect();
        format!(
            "was told {}, which is no tick of an instance that arrives now; instances started at \
             [{}] us",
            said.text,
            starts.join(", ")
        )
    })
}

/// How many ticks are missing between two that a client was told.
fn gap(instances: &[Instance], pair: &[u64]) -> u64 {
    let between = instances
        .iter()
        .flat_map(|i| i.ticks(pair[0] + 1, pair[1] - 1));
    between.count() as u64
}

/// No tick is missing: the first that is, if there is one.
fn complete(
    history: &History<'_>,
    instances: &[Instance],
    life: &Life,
    told: &[u64],
) -> Result<(), u64> {
    let Some(connected) = life.connected else {
        return Ok(());
    };
    // The instance that is there when the client is stays as long as the client does.
    let there = instances.iter().rev().find(|i| i.start <= connected);
    // Over a link without latency it may have joined just after the tick of that very moment.
    let from = connected + 1;
    for tick in there.into_iter().flat_map(|i| i.ticks(from, u64::MAX)) {
        let by = history.arrival(life.zone, tick);
        if by >= history.until(life) || history.is_cut(life, by) {
            break;
        }
        if told.binary_search(&tick).is_err() {
            return Err(tick);
        }
    }
    Ok(())
}

/// The first tick of each instance is told to a client that had asked for it before, at once.
fn first_ticks(history: &History<'_>, instances: &[Instance]) -> Result<(), Breach> {
    for Instance { start, .. } in instances {
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
