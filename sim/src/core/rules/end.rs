//! The end: a drain is over in time and not before, and then nothing is left and all is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Found;
use crate::core::plan::{MOMENT_MS, Step};
use crate::core::services::{SCRIPT, SERVICES};
use crate::core::world::World;
use crate::host;
use crate::journal::JOURNAL;
use crate::plan::{Network, Plan};
use crate::rooms::KINDS;
use crate::trace::{Event, Held};
use crate::wild::Wild;

/// A drain ends when the last session and the last instance have, and within their deadlines.
pub(crate) fn drain(world: &mut World) -> Found {
    let Some(drained) = world.drained else {
        return Ok(());
    };
    let sessions = world.app.sessions_open();
    let registry = world.app.registry();
    let busy = SERVICES
        .iter()
        .chain(&KINDS)
        .chain(&[JOURNAL])
        .filter(|service| {
            let status = registry.kind_status(service);
            status.is_some_and(|status| !status.is_idle())
        });
    let busy = busy.count();
    let is_over = sessions == 0 && busy == 0;
    let now = world.rt.time();
    // A pause of the whole machine comes before all that is overdue.
    let since = world.jumped.map_or(drained, |jumped| jumped.max(drained));
    match world.served.with(|served| *served) {
        Some(0) if is_over => nothing_runs(world),
        Some(left) => Err(format!(
            "the drain was over with {left} sessions; {sessions} and {busy} services are left"
        )),
        None if is_over => Err("the drain is not told that it is over".to_owned()),
        None if now >= since + longest(world) => Err(format!(
            "{sessions} sessions, {busy} services are left of the drain"
        )),
        None => Ok(()),
    }
}

/// How long a drain may take: until what had arrived is dealt with, sessions are closed and
/// instances have stopped.
fn longest(world: &World) -> Duration {
    let limits = world.app.limits();
    let grace = Duration::from_millis(world.plan.wild.stop_grace_ms);
    limits.arrivals_timeout() + limits.close_timeout + grace
}

/// No task and no timer outlives the drain.
fn nothing_runs(world: &World) -> Found {
    let (tasks, timers) = (world.rt.tasks(), world.rt.timers());
    let sweepers = sweepers(world);
    if (tasks, timers) == (sweepers, sweepers) {
        return Ok(());
    }
    Err(format!(
        "{tasks} tasks and {timers} timers outlive the drain"
    ))
}

/// The tasks that free the memory of histories until the end of the application.
fn sweepers(world: &World) -> usize {
    usize::from(world.plan.journal.is_some())
}

/// What must be true when everybody is gone.
pub(crate) fn at_end(world: &mut World) -> Found {
    let held = host::held(&world.app, world.rt.tasks().saturating_sub(sweepers(world)));
    world.recorder.record(Event::Held(Box::new(held.clone())));
    if world.served.with(|served| served.is_none()) {
        return Err("the drain is not over".to_owned());
    }
    nothing_runs(world)?;
    if held.rooms_open > 0 || !held.rooms.is_empty() {
        return Err(format!(
            "{} rooms count, and {:?} are left",
            held.rooms_open, held.rooms
        ));
    }
    taken(world, &held)?;
    received(world, &held)?;
    stale(world)?;
    gentle(world, &held)
}

/// What clients said was published on an inbox or counted as not taken.
fn taken(world: &World, held: &Held) -> Found {
    if !world.is_all_script() {
        return Ok(());
    }
    let others = world.bodies(SCRIPT).published() + world.noted;
    let said = others + held.messages_in;
    let counted = held.published + held.lost_not_taken;
    if said != counted {
        return Err(format!(
            "{said} messages were published or said, {counted} were counted: {held:?}"
        ));
    }
    Ok(())
}

/// An instance that was neither aborted nor crashed has received all it was sent.
fn received(world: &World, held: &Held) -> Found {
    let status = world.app.registry().status(SCRIPT);
    let lives_out = status.is_some_and(|s| s.counts.crashes + s.counts.aborts == 0);
    if !world.is_all_script() || !lives_out || world.killed {
        return Ok(());
    }
    let sent = held.messages_in.saturating_sub(held.lost_not_taken);
    let got = world.bodies(SCRIPT).received();
    if sent != got {
        return Err(format!(
            "{SCRIPT} was sent {sent} messages and received {got}"
        ));
    }
    Ok(())
}

/// Nobody was told anything by an instance that was to stop before they joined.
fn stale(world: &World) -> Found {
    for (number, client) in &world.clients {
        let told = client.peer.talk(|_, received| {
            let generation =
                |text: &String| text.strip_prefix("of ")?.split(' ').next()?.parse().ok();
            received.iter().filter_map(generation).min()
        });
        let since = client.since;
        if client.service == SCRIPT && told.is_some_and(|told: u64| told < since) {
            return Err(format!(
                "client {number} of generation {since} was told by {told:?}"
            ));
        }
    }
    Ok(())
}

/// Where all clients read, but for a moment, talk and stay, nothing of what they had said by the
/// drain is lost, and nothing of what they were owed.
fn gentle(world: &mut World, held: &Held) -> Found {
    let mut stopped_ms = None;
    let mut is_gentle = |step: &Step| match step {
        Step::Advance { ms } => {
            stopped_ms = stopped_ms.map(|stopped| stopped + ms);
            stopped_ms.is_none_or(|stopped| stopped <= MOMENT_MS)
        }
        // None reads again before all do.
        Step::Resume { .. } => {
            stopped_ms = None;
            true
        }
        Step::Sip { bytes: 0, .. } => {
            stopped_ms.get_or_insert(0);
            true
        }
        Step::Connect { .. }
        | Step::Drain
        | Step::Fragments { .. }
        | Step::Ping { .. }
        | Step::Run { .. }
        | Step::Settle
        | Step::Text { .. } => true,
        Step::Come { .. }
        | Step::Deafen { .. }
        | Step::Drop { .. }
        | Step::Enter { .. }
        | Step::End { .. }
        | Step::Erase { .. }
        | Step::Evict { .. }
        | Step::HalfClose { .. }
        | Step::Jump { .. }
        | Step::Kill
        | Step::Leave { .. }
        | Step::Look { .. }
        | Step::LookUp { .. }
        | Step::Note { .. }
        | Step::Offend { .. }
        | Step::Record { .. }
        | Step::Reset { .. }
        | Step::Sip { .. }
        | Step::Tell { .. }
        | Step::Unwatch { .. }
        | Step::Watch { .. } => false,
    };
    let has_script = world
        .clients
        .values()
        .any(|client| client.service == SCRIPT);
    if has_script || world.plan.wild.closes_slow || !world.plan.steps.iter().all(&mut is_gentle) {
        return Ok(());
    }
    world.marks.insert("drain of clients that only talked");
    let lost = held.lost_unsent + held.lost_unsubscribed + held.lost_not_taken;
    if lost > 0 {
        return Err(format!("{lost} messages were lost at the drain: {held:?}"));
    }
    // What falls out of a window is counted.
    if held.lost_lagged == 0 {
        told_all(world)?;
    }
    Ok(())
}

/// What a client of `ping` had said by the drain, all who were there then have received.
fn told_all(world: &World) -> Found {
    let mut due: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let before = world.plan.steps.iter();
    for step in before.take_while(|step| **step != Step::Drain) {
        if let Step::Connect { client, service } = step
            && service == "ping"
            && world.clients.contains_key(client)
        {
            due.entry(*client).or_default();
        }
        if let Step::Fragments { client, text, .. } | Step::Text { client, text } = step
            && due.contains_key(client)
        {
            due.values_mut().for_each(|due| due.push(text));
        }
    }
    for (client, due) in &due {
        let lacks = world.clients.get(client).and_then(|client| {
            let lacks =
                |received: &[String]| due.iter().find(|t| !received.iter().any(|r| r == *t));
            client.peer.talk(|_, received| lacks(received).copied())
        });
        if let Some(text) = lacks {
            return Err(format!(
                "client {client} lacks `{text}`, said before the drain"
            ));
        }
    }
    Ok(())
}

/// What the checkers of traces need of a plan.
pub(crate) fn outline(world: &World) -> Plan {
    Plan {
        seed: world.plan.seed,
        network: Network {
            zones: 1,
            tick_ms: 0,
            latency_ms_min: 0,
            latency_ms_max: 0,
            slack_ms: 0,
        },
        actions: Vec::new(),
        end_ms: u64::try_from(world.rt.time().as_millis()).unwrap_or(u64::MAX),
        wild: Some(Wild {
            journal: world.plan.journal,
            ..world.plan.wild.clone()
        }),
    }
}
