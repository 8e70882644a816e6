//! Isolation: a service that fails hurts no client of another one.

use super::crashes_in;
use crate::checker::{Breach, Checker, History};
use crate::trace::Event;

/// Services that never crash are never given up, and their clients are never told of a crash; no
/// message crosses services.
pub struct Isolation;

impl Checker for Isolation {
    fn name(&self) -> &'static str {
        "isolation"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        for entry in history.entries {
            if let Event::Status { service, state, .. } = &entry.event
                && !crashes_in(history, service)
                && ["backoff", "failed"].contains(state)
            {
                return Err(Breach::new(entry.t, format!("{service} is {state}")));
            }
        }
        // Who answered no ping is told so with the same code.
        let mut silent = history.ended_for("silent");
        for (client, life) in &history.clients {
            let is_told = |(t, code): (u64, Option<u16>)| (code == Some(1011)).then_some(t);
            let left = life.leaving.map(|(_, code)| code);
            if let Some(t) = life.closed.and_then(is_told)
                && !crashes_in(history, &life.service)
                && left != Some(1011)
            {
                if let Some(fewer) = silent.checked_sub(1) {
                    silent = fewer;
                    continue;
                }
                let text = format!("client {client} of {} was closed with 1011", life.service);
                return Err(Breach::new(t, text));
            }
            for said in &life.received {
                let of = sender(&said.text).and_then(|sender| history.clients.get(&sender));
                if of.is_some_and(|of| of.service != life.service) {
                    let text = format!("client {client} received `{}`", said.text);
                    return Err(Breach::new(said.t, text));
                }
            }
        }
        Ok(())
    }
}

/// The client who sent this text of a wild plan.
fn sender(text: &str) -> Option<u32> {
    text.split(' ').nth(2)?.parse().ok()
}
