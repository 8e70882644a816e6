//! Restart: the histories that a process leaves are the same for the next one.

use busline::app::App;
use busline::bus::{Reading, Topic};

use super::Found;
use crate::core::executor::{Executor, Order};
use crate::core::world::World;
use crate::journal::scribe;
use crate::past::Place;

/// A history as a program reads it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    place: Option<Place>,
    has_ended: bool,
    /// The messages: each with its offset, its text, and whether it is the end.
    messages: Vec<(Option<u64>, String, bool)>,
}

/// An application with the same policies takes over each history that was exported: its position,
/// its messages, and its end.
pub(crate) fn restart(world: &World) -> Found {
    let Some(journal) = world.plan.journal else {
        return Ok(());
    };
    let saved = world.app.bus().export();
    let rt = Executor::new(world.plan.seed, Order::Fifo);
    rt.set_now(world.rt.time());
    let builder = App::builder(rt.clone()).limits(world.plan.limits());
    let builder = journal.register(builder, &world.plan.wild, scribe);
    let next = builder.map_err(|error| error.to_string())?.build();
    let imported = next.bus().import(&saved);
    let found = same(world, &next);
    rt.clear();
    if imported != saved.len() {
        return Err(format!("{imported} of {} histories came back", saved.len()));
    }
    found
}

/// Each journal with a position is the same in both applications.
fn same(world: &World, next: &App<Executor>) -> Found {
    for (name, (room, annals)) in &world.journals.rooms {
        let topic = Topic::from_service_to_ws(room);
        let (before, after) = (read(&world.app, &topic), read(next, &topic));
        if annals.epoch.is_some() && before != after {
            return Err(format!(
                "{name} is {after:?} after a restart, and was {before:?}"
            ));
        }
    }
    Ok(())
}

fn read(app: &App<Executor>, topic: &Topic) -> Read {
    let all = Reading {
        since: None,
        limit: usize::MAX,
        reverse: false,
    };
    let page = app.bus().history(topic, &all);
    let messages = page.into_iter().flat_map(|page| page.messages);
    let messages = messages.map(|recorded| {
        let message = &recorded.message;
        let text = message.as_text().unwrap_or_default().to_owned();
        (message.offset(), text, recorded.is_end)
    });
    Read {
        place: app.bus().position(topic).map(|position| Place {
            epoch: position.epoch.to_string(),
            offset: position.offset,
        }),
        has_ended: app.bus().has_ended(topic),
        messages: messages.collect(),
    }
}
