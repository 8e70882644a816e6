//! `ping`: what one client sends reaches every client, once, in one order.

use std::collections::BTreeMap;

use super::history::{History, Life, Said};
use super::{Breach, Checker, Scope, shorten};

const SERVICE: &str = "ping";

/// A text that a client sends while it and others are connected reaches every client that is
/// connected from then until it must have arrived; exactly once, and in the same order for all.
///
/// A text may be missing only if the application has counted a loss.
pub struct Ping;

impl Checker for Ping {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn scope(&self) -> Scope {
        Scope::Calm
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let lives: Vec<_> = history.clients_of(SERVICE).collect();
        authentic(&lives)?;
        let places: Vec<_> = lives.iter().map(|(_, life)| Places::of(life)).collect();
        for (one, (_, life)) in lives.iter().enumerate() {
            for (other, others) in places.iter().enumerate() {
                if one != other {
                    others.agree(&life.received, (lives[one].0, lives[other].0))?;
                }
            }
        }
        delivered(history, &lives, &places)
    }
}

/// Where in what a client received each text stands.
struct Places<'a>(BTreeMap<&'a str, usize>);

impl<'a> Places<'a> {
    fn of(life: &'a Life) -> Self {
        let received = life.received.iter().enumerate();
        Self(received.map(|(place, said)| (&*said.text, place)).collect())
    }

    /// Two texts that are neighbours for one client are so for every client that has both.
    fn agree(&self, received: &[Said], (one, other): (u32, u32)) -> Result<(), Breach> {
        for pair in received.windows(2) {
            let places = (self.0.get(&*pair[0].text), self.0.get(&*pair[1].text));
            if let (Some(first), Some(second)) = places
                && *second != first + 1
            {
                let (a, b) = (shorten(&pair[0].text), shorten(&pair[1].text));
                let text = format!(
                    "client {one} received `{b}` right after `{a}`, client {other} as number \
                     {second} and {first}"
                );
                return Err(Breach::new(pair[1].t, text));
            }
        }
        Ok(())
    }
}

/// Nobody receives what was not sent before, or anything twice.
fn authentic(lives: &[(u32, &Life)]) -> Result<(), Breach> {
    let sent = lives.iter().flat_map(|(_, life)| &life.sent);
    let sent: BTreeMap<&str, u64> = sent.map(|said| (&*said.text, said.n)).collect();
    for (client, life) in lives {
        let mut seen = BTreeMap::new();
        for said in &life.received {
            let text = shorten(&said.text);
            if sent.get(&*said.text).is_none_or(|n| *n > said.n) {
                let text = format!("client {client} received `{text}`, which nobody had sent");
                return Err(Breach::new(said.t, text));
            }
            if let Some(t) = seen.insert(&said.text, said.t) {
                let text = format!("client {client} received `{text}` twice, before at {t} us");
                return Err(Breach::new(said.t, text));
            }
        }
    }
    Ok(())
}

/// Everybody has received what was due.
fn delivered(
    history: &History<'_>,
    lives: &[(u32, &Life)],
    places: &[Places<'_>],
) -> Result<(), Breach> {
    let mut missing = Vec::new();
    for (sender, from) in lives {
        for said in &from.sent {
            let Some(published) = published(history, from, said) else {
                continue;
            };
            for ((receiver, to), places) in lives.iter().zip(places) {
                let due = due(history, to, (said.t, published));
                if let Some(by) = due.filter(|_| !places.0.contains_key(&*said.text)) {
                    let text = shorten(&said.text);
                    let text = format!(
                        "client {receiver} has not received `{text}`, sent by client {sender} at \
                         {} us",
                        said.t
                    );
                    missing.push(Breach::new(by, text));
                }
            }
        }
    }
    let counted = history
        .held
        .map_or(0, |held| held.lost_lagged + held.lost_not_taken);
    if missing.len() as u64 <= counted {
        return Ok(());
    }
    let mut first = missing.swap_remove(0);
    first.text += &format!(" ({} missing, {counted} counted)", missing.len() + 1);
    Err(first)
}

/// By when a text is published; `None` if that is not sure.
fn published(history: &History<'_>, from: &Life, said: &Said) -> Option<u64> {
    let by = history.arrival(from.zone, said.t);
    let is_sure = !history.is_cut(from, by)
        && !from.is_lost_before(by)
        && history.drained.is_none_or(|drained| by < drained);
    is_sure.then_some(by)
}

/// By when a client must have what is sent at the first and published by the second time.
fn due(history: &History<'_>, to: &Life, (sent, published): (u64, u64)) -> Option<u64> {
    let by = history.arrival(to.zone, published);
    let is_there = to.connected.is_some_and(|connected| connected <= sent)
        && by < history.until(to)
        && !history.is_cut(to, by);
    is_there.then_some(by)
}
