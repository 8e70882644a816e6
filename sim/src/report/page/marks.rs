//! What is on the lanes: lives and ends of clients, instances of services, the server, violations.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no mark of its own is not drawn; the table tells it"
)]

use std::collections::BTreeMap;

use super::names::{Names, Side};
use super::svg::Svg;
use super::{Scene, seconds, story};
use crate::plan::Action;
use crate::trace::{Ending, Entry, Event};

/// More ticks than this are put together into one for each small stretch of a lane.
const TICKS_MAX: usize = 6_000;
/// Such stretches in the whole of a run.
const STRETCHES: u64 = 1_500;

/// Instances of services: a bar for each state, a name for each generation.
pub(super) fn services(scene: &Scene<'_>, svg: &mut Svg) {
    let mut last: BTreeMap<&str, Instance<'_>> = BTreeMap::new();
    for entry in scene.history.entries {
        if let Event::Acted {
            action: Action::Crash | Action::PowerLoss,
        } = &entry.event
        {
            for (service, instance) in std::mem::take(&mut last) {
                instance.draw(scene, svg, service, entry.t);
            }
        }
        let Event::Status {
            service,
            state,
            generation,
            clients,
            ..
        } = &entry.event
        else {
            continue;
        };
        if let Some(instance) = last.get_mut(service.as_str())
            && (instance.state, instance.generation) == (state, generation.as_str())
        {
            instance.clients_most = instance.clients_most.max(*clients);
            continue;
        }
        let instance = Instance {
            from: entry.t,
            state,
            generation,
            clients_most: *clients,
        };
        if let Some(before) = last.insert(service, instance) {
            before.draw(scene, svg, service, entry.t);
        }
    }
    for (service, instance) in last {
        instance.draw(scene, svg, service, scene.end);
    }
}

/// A service in one state.
struct Instance<'a> {
    from: u64,
    state: &'a str,
    generation: &'a str,
    clients_most: usize,
}

impl Instance<'_> {
    fn draw(&self, scene: &Scene<'_>, svg: &mut Svg, service: &str, to: u64) {
        let Some(y) = scene.lanes.services.get(service) else {
            return;
        };
        let Self {
            from,
            state,
            generation,
            clients_most,
        } = self;
        let title = format!(
            "{service}, generation {generation}: {state} from {} to {}, {clients_most} clients at \
             most",
            seconds(*from),
            seconds(to)
        );
        if *state == "stopped" {
            return svg.line("stopped", (*from, y + 13), (to, y + 13), &title);
        }
        svg.bar(
            &format!("instance {state}"),
            (*from, to),
            (y + 4, 18),
            &title,
        );
        if *state == "running" {
            svg.text(
                "name",
                (*from, y + 17),
                &format!("gen {generation}"),
                &title,
            );
        }
    }
}

/// The life of each client: its connection, what it sends and receives, how it ends.
pub(super) fn clients(scene: &mut Scene<'_>, svg: &mut Svg) {
    for (client, y) in &scene.lanes.clients {
        if let Some(life) = scene.history.clients.get(client) {
            let gone = life.ended.map_or(scene.end, |(t, _)| t);
            let up = life.connected.unwrap_or(gone);
            let title = format!("client {client} connects to {}", life.service);
            svg.bar("opening", (life.connecting, up), (y + 7, 3), &title);
            let title = format!("client {client} is connected to {}", life.service);
            svg.bar("life", (up, gone), (y + 6, 5), &title);
        }
    }
    let is_said = |e: &&Entry| matches!(e.event, Event::Sent { .. } | Event::Received { .. });
    let count = scene.history.entries.iter().filter(is_said).count();
    if count > TICKS_MAX {
        many_ticks(scene, svg);
        scene.notes.push(format!(
            "{count} messages are too many to draw: a tick may stand for several."
        ));
    }
    for entry in scene.history.entries {
        if let Some((client, class)) = mark(&entry.event)
            && let Some(y) = scene.lanes.clients.get(&client)
            && !(count > TICKS_MAX && ["sent", "received"].contains(&class))
        {
            place(svg, entry, class, *y);
        }
    }
    if scene.lanes.hidden > 0 {
        scene.notes.push(format!(
            "{} more clients are not drawn.",
            scene.lanes.hidden
        ));
    }
}

/// The client of an event, and how it is marked.
fn mark(event: &Event) -> Option<(u32, &'static str)> {
    let (client, class) = match event {
        Event::Sent { client, .. } => (client, "sent"),
        Event::Received { client, .. } => (client, "received"),
        Event::Connected { client } => (client, "connected"),
        Event::Did { client, .. } | Event::Told { client, .. } => (client, "did"),
        Event::Refused { client, .. } => (client, "refused"),
        Event::Leaving { client, .. } => (client, "leaving"),
        Event::Closed { client, .. } => (client, "closed"),
        Event::Ended { client, ending } => match ending {
            Ending::Broken | Ending::GaveUp => (client, "broken"),
            Ending::Aborted => (client, "aborted"),
            Ending::Closed => return None,
        },
        _ => return None,
    };
    Some((*client, class))
}

fn place(svg: &mut Svg, entry: &Entry, class: &str, y: u32) {
    let Some(told) = story::told(entry) else {
        return;
    };
    let t = entry.t;
    let title = format!("{}: {} {}", seconds(t), told.who, told.what);
    match (class, &entry.event) {
        ("sent", _) => svg.rect(class, (t, 2), (y + 1, 7), &title),
        ("received", _) => svg.rect(class, (t, 2), (y + 9, 7), &title),
        ("connected", _) => svg.dot(class, t, (y + 8, 3), &title),
        ("closed", Event::Closed { code, .. }) => {
            let code = code.map_or("no code".to_owned(), |code| code.to_string());
            svg.rect(class, (t, 3), (y + 2, 13), &title);
            svg.text("code", (t, y + 12), &code, &title);
        }
        ("did" | "leaving", _) => svg.rect(class, (t, 3), (y + 2, 13), &title),
        (_, _) => svg.text(class, (t, y + 13), "x", &title),
    }
}

/// One tick for all messages of a small stretch.
fn many_ticks(scene: &Scene<'_>, svg: &mut Svg) {
    let stretch = (scene.end / STRETCHES).max(1);
    let mut counts: BTreeMap<(u32, &str, u64), usize> = BTreeMap::new();
    for entry in scene.history.entries {
        if let Some((client, class @ ("sent" | "received"))) = mark(&entry.event) {
            *counts
                .entry((client, class, entry.t / stretch))
                .or_default() += 1;
        }
    }
    for ((client, class, place), count) in counts {
        if let Some(y) = scene.lanes.clients.get(&client) {
            let t = place * stretch;
            let title = format!(
                "client {client}: {count} messages {class} about {}",
                seconds(t)
            );
            let y = if class == "sent" { y + 1 } else { y + 9 };
            svg.rect(class, (t, 2), (y, 7), &title);
        }
    }
}

/// What happens to the server as a whole.
pub(super) fn server(scene: &Scene<'_>, svg: &mut Svg, names: &mut Names) {
    // Below what lasts.
    let y = scene.lanes.server + 16;
    for entry in scene.history.entries {
        let (class, name) = match &entry.event {
            Event::Acted {
                action: Action::Drain,
            } => ("drain", "drain"),
            Event::Served { .. } => ("drain", "returned"),
            Event::Panicked { .. } => ("broken", "panic"),
            Event::Failed { .. } => ("failed", ""),
            Event::Log { level: "ERROR", .. } => ("broken", "error"),
            Event::Log { level: "WARN", .. } => ("failed", "warning"),
            _ => continue,
        };
        let what = story::told(entry).map_or(String::new(), |told| told.what);
        let title = format!("{}: server {what}", seconds(entry.t));
        svg.rect(class, (entry.t, 3), (y, 14), &title);
        let side = if name == "drain" {
            Side::Before
        } else {
            Side::After
        };
        names.push(side, (entry.t, y + 11), name, &title);
    }
}

/// The broken rules: a line through all lanes, and a ring on the lane of the client.
pub(super) fn violations(scene: &Scene<'_>, svg: &mut Svg) {
    for (place, violation) in scene.report.violations.iter().enumerate() {
        let (t, title) = (violation.breach.t, violation.to_string());
        svg.line("violation", (t, 0), (t, scene.lanes.height), &title);
        if place == 0 {
            let client = scene
                .suspect()
                .and_then(|client| scene.lanes.client(client));
            if let Some(y) = client {
                svg.dot("culprit", t, (y, 9), &title);
            }
        }
    }
}
