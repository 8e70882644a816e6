//! Quiescence: after everybody has left and the server has drained, nothing is left.

use super::history::History;
use super::{Breach, Checker, Scope};
use crate::trace::{Event, Held};

/// `serve` has returned without an error; no topic, subscription, byte, session, instance, task or
/// socket is left; every delivery is accounted for; nothing has panicked or logged a warning but
/// that of a system without file descriptors. A server that was killed leaves that to its system.
pub struct Quiescence;

impl Checker for Quiescence {
    fn name(&self) -> &'static str {
        "quiescence"
    }

    fn scope(&self) -> Scope {
        Scope::Calm
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        sound(history)?;
        if history.is_down() {
            return Ok(());
        }
        served(history).map_err(|text| Breach::new(end, text))?;
        let Some(held) = history.held else {
            return Err(Breach::new(end, "the application was never built"));
        };
        let found = idle(held)
            .and_then(|()| conserved(held))
            .and_then(|()| sockets(history));
        found.map_err(|text| Breach::new(end, text))
    }
}

fn sound(history: &History<'_>) -> Result<(), Breach> {
    for entry in history.entries {
        if let Event::Panicked { text } = &entry.event {
            return Err(Breach::new(entry.t, format!("a task panicked: {text}")));
        }
        if let Event::Log { level, message, .. } = &entry.event
            && ["ERROR", "WARN"].contains(level)
            && !message.starts_with("cannot accept connections")
        {
            return Err(Breach::new(
                entry.t,
                format!("{level} was logged: {message}"),
            ));
        }
    }
    Ok(())
}

pub(super) fn served(history: &History<'_>) -> Result<(), String> {
    let served = history.entries.iter().find_map(|entry| {
        if let Event::Served { error } = &entry.event {
            return Some(error);
        }
        None
    });
    match served {
        None => Err("serve has not returned".to_owned()),
        Some(Some(error)) => Err(format!("serve returned an error: {error}")),
        Some(None) => Ok(()),
    }
}

pub(super) fn idle(held: &Held) -> Result<(), String> {
    let left = [
        ("topics", held.topics),
        ("subscriptions", held.subscriptions),
        ("bytes", held.bytes),
        ("sessions", held.sessions_open),
        ("tasks", held.tasks),
        ("rooms", held.rooms.len()),
        (
            "shares of the rooms",
            usize::try_from(held.rooms_open).unwrap_or(usize::MAX),
        ),
    ];
    if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
        return Err(format!("{count} {what} are left"));
    }
    if !held.busy.is_empty() {
        return Err(format!("not idle: {}", held.busy.join(", ")));
    }
    if held.opened != held.closed {
        let Held { opened, closed, .. } = held;
        return Err(format!("{opened} sessions were opened, {closed} closed"));
    }
    Ok(())
}

pub(super) fn conserved(held: &Held) -> Result<(), String> {
    let lost = held.lost_lagged + held.lost_superseded + held.lost_unsubscribed;
    if held.owed == held.delivered + lost + held.pending {
        return Ok(());
    }
    Err(format!(
        "{} deliveries were owed, but {} made, {lost} lost and {} pending",
        held.owed, held.delivered, held.pending
    ))
}

pub(super) fn sockets(history: &History<'_>) -> Result<(), String> {
    // Those of a server that was killed went with it.
    let count = |is_it: fn(&Event) -> bool| {
        let events = history.epoch().iter().map(|entry| &entry.event);
        events.filter(|event| is_it(event)).count()
    };
    let accepted = count(|event| matches!(event, Event::Accepted { .. }));
    let dropped = count(|event| matches!(event, Event::Dropped { .. }));
    if accepted == dropped {
        return Ok(());
    }
    Err(format!(
        "{accepted} sockets were accepted, {dropped} dropped"
    ))
}
