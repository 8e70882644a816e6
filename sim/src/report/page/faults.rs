//! What is done from outside: bands for what lasts, marks for what is done at once.

use std::collections::BTreeMap;

use super::names::{Names, Side};
use super::svg::Svg;
use super::{Scene, seconds, story};
use crate::plan::{Action, Way};
use crate::trace::{Entry, Event};

/// A fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    /// No server is there.
    Down,
    /// The link of a zone is held.
    Hold(u8),
    /// The link of a zone loses everything, or one direction of it does.
    Partition(u8),
}

/// What an event means for a fault that lasts.
enum Change {
    Begins(Lasting, &'static str),
    Ends(Lasting),
    /// It is over by itself.
    Lasts(u64, &'static str),
    /// It is done at once, to the network or to the server.
    Once(Where, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Network,
    Server,
}

fn change(event: &Event) -> Option<Change> {
    if *event == Event::Started {
        return Some(Change::Ends(Lasting::Down));
    }
    let Event::Acted { action } = event else {
        return None;
    };
    Some(match action {
        Action::Hold { zone } => Change::Begins(Lasting::Hold(*zone), "hold"),
        Action::Release { zone } => Change::Ends(Lasting::Hold(*zone)),
        Action::Partition { zone, way } => {
            let name = match way {
                Way::Both => "partition",
                Way::Down => "cut down",
                Way::Up => "cut up",
            };
            Change::Begins(Lasting::Partition(*zone), name)
        }
        Action::Repair { zone } => Change::Ends(Lasting::Partition(*zone)),
        Action::Crash => Change::Begins(Lasting::Down, "crashed"),
        Action::PowerLoss => Change::Begins(Lasting::Down, "no power"),
        Action::Restart => Change::Begins(Lasting::Down, "restarts"),
        Action::Exhaust { ms } => Change::Lasts(ms * 1000, "no descriptors"),
        Action::Bandwidth { .. } => Change::Once(Where::Network, "rate"),
        Action::Latency { .. } => Change::Once(Where::Network, "latency"),
        Action::Start { .. } => Change::Once(Where::Server, "start"),
        Action::Wall { .. } => Change::Once(Where::Server, "clock"),
        // These are drawn with the server, or with the clients that do them.
        Action::Abort { .. }
        | Action::Act { .. }
        | Action::Bounce
        | Action::Call { .. }
        | Action::Connect { .. }
        | Action::Drain
        | Action::Leave { .. }
        | Action::Text { .. } => return None,
    })
}

/// All of them.
pub(super) fn draw(scene: &Scene<'_>, svg: &mut Svg, names: &mut Names) {
    let mut open: BTreeMap<Lasting, (u64, &str)> = BTreeMap::new();
    for entry in scene.history.entries {
        match change(&entry.event) {
            Some(Change::Begins(fault, name)) => {
                open.entry(fault).or_insert((entry.t, name));
            }
            Some(Change::Ends(fault)) => {
                if let Some((from, name)) = open.remove(&fault) {
                    fault.draw(scene, (svg, names), name, (from, entry.t));
                }
            }
            Some(Change::Lasts(time, name)) => {
                let to = (entry.t + time).min(scene.end);
                server_band(scene, (svg, names), ("exhaust", name), (entry.t, to));
            }
            Some(Change::Once(place, name)) => once(scene, (svg, names), entry, (place, name)),
            None => {}
        }
    }
    for (fault, (from, name)) in open {
        fault.draw(scene, (svg, names), name, (from, scene.end));
    }
}

impl Lasting {
    fn draw(
        self,
        scene: &Scene<'_>,
        (svg, names): (&mut Svg, &mut Names),
        name: &str,
        (from, to): (u64, u64),
    ) {
        // Holds above, partitions below, so that both names can be read.
        let (class, zone, above) = match self {
            Self::Down => return server_band(scene, (svg, names), ("down", name), (from, to)),
            Self::Hold(zone) => ("hold", zone, 1),
            Self::Partition(zone) => ("partition", zone, 16),
        };
        let (start, end) = (seconds(from), seconds(to));
        let title = format!("{name} of zone {zone} from {start} to {end}");
        for (client, y) in &scene.lanes.clients {
            let life = scene.history.clients.get(client);
            if life.is_some_and(|life| life.zone == zone) {
                svg.bar(class, (from, to), (*y, 17), &title);
            }
        }
        let y = scene.lanes.network + above;
        svg.bar(class, (from, to), (y, 14), &title);
        let name = format!("{name} zone {zone}");
        names.push(Side::After, (from, y + 11), &name, &title);
    }
}

fn server_band(
    scene: &Scene<'_>,
    (svg, names): (&mut Svg, &mut Names),
    (class, name): (&str, &str),
    (from, to): (u64, u64),
) {
    let title = format!("server: {name} from {} to {}", seconds(from), seconds(to));
    let y = scene.lanes.server;
    svg.bar(class, (from, to), (y + 1, 14), &title);
    names.push(Side::After, (from, y + 12), name, &title);
}

fn once(
    scene: &Scene<'_>,
    (svg, names): (&mut Svg, &mut Names),
    entry: &Entry,
    (place, name): (Where, &str),
) {
    let what = story::told(entry).map_or(String::new(), |told| told.what);
    let title = format!("{}: {what}", seconds(entry.t));
    // Below what lasts.
    let y = match place {
        Where::Network => scene.lanes.network + 31,
        Where::Server => scene.lanes.server + 16,
    };
    svg.rect("once", (entry.t, 3), (y, 14), &title);
    names.push(Side::After, (entry.t, y + 11), name, &title);
}
