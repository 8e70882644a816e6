//! Promptness: publishing never waits, and a client that stalls delays nobody else.

use std::collections::BTreeMap;

use super::{Breach, Checker, History, Life, shorten};
use crate::wild::Wild;

/// What a polite client sends to `ping` over a sound link reaches every other such client within
/// the latency of the two links, or not at all: whoever else has stopped reading, sips, floods, is
/// held, cut off or gone.
///
/// Of runs in which links have a rate or small buffers, or clients wait for their rate, nothing is
/// asked: there a message waits for the ones before it.
pub struct Prompt;

impl Checker for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let makes_wait = history.wild.as_ref().is_some_and(Wild::makes_wait);
        if !history.is_wide || makes_wait {
            return Ok(());
        }
        let sound = |life: &Life| life.is_polite() && !history.is_hurt(life);
        let lives: Vec<_> = history.clients_of("ping").collect();
        let lives = || lives.iter().filter(|(_, life)| sound(life));
        let sent =
            lives().flat_map(|(client, life)| life.sent.iter().map(move |said| (client, said)));
        let sent: BTreeMap<&str, _> = sent
            .map(|(by, said)| (said.text.as_str(), (by, said.t)))
            .collect();
        for (client, life) in lives() {
            for said in &life.received {
                let Some((by, t)) = sent.get(said.text.as_str()) else {
                    continue;
                };
                let due = t + 2 * history.one_way() + history.grace;
                if said.t > due {
                    let text = shorten(&said.text);
                    let text = format!(
                        "client {client} received `{text}` of client {by} {} us late",
                        said.t - due
                    );
                    return Err(Breach::new(said.t, text));
                }
            }
        }
        Ok(())
    }
}
