//! Notices: what a client that speaks JSON is told about its messages is so.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::{Breach, Checker, History, Life, Scope};
use crate::rooms::name;
use crate::trace::Notice;
use crate::wild::Deed;

/// A client is told of exactly as many losses between two answers of `echo` as there are, of no
/// fewer between two messages of `ping`; all together of no more than were counted. It is told of
/// instances that were started, each once and in order.
pub struct Notices;

impl Checker for Notices {
    fn name(&self) -> &'static str {
        "notices"
    }

    fn scope(&self) -> Scope {
        Scope::Wild
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        let speakers = || history.clients.iter().filter(|(_, life)| speaks(life));
        for (client, life) in speakers() {
            restarts(history, life).map_err(|(t, text)| told(t, *client, &text))?;
            let sent = (life.service == "echo").then(|| places(life.sent.iter().map(|s| &*s.text)));
            if let Some(sent) = sent {
                let others = life.deeds.iter();
                let others = others
                    .filter(|(_, deed)| matches!(deed, Deed::Binary { .. }))
                    .count();
                gaps(life, &sent, Some(others as u64))
                    .map_err(|(t, text)| told(t, *client, &text))?;
            }
            if life.service == "ping" {
                let order = longest(history);
                gaps(life, &order, None).map_err(|(t, text)| told(t, *client, &text))?;
            }
        }
        let lost: u64 = speakers().map(|(_, life)| lagged(life, 0, u64::MAX)).sum();
        if lost > history.lost() {
            let text = format!(
                "clients were told of {lost} losses, {} counted",
                history.lost()
            );
            return Err(Breach::new(end, text));
        }
        Ok(())
    }
}

fn told(t: u64, client: u32, text: &str) -> Breach {
    Breach::new(t, format!("client {client} {text}"))
}

fn speaks(life: &Life) -> bool {
    let is_json = |(_, deed): &(u64, Deed)| matches!(deed, Deed::Speak { json: true, .. });
    life.deeds.iter().any(is_json)
}

/// Losses that the client was told of between two events.
fn lagged(life: &Life, from: u64, to: u64) -> u64 {
    let told = life.told.iter().filter(|(n, _)| (from..=to).contains(n));
    told.map(|(_, notice)| match notice {
        Notice::Lagged { messages } => *messages,
        Notice::Restarted { .. } => 0,
    })
    .sum()
}

fn places<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    texts
        .enumerate()
        .map(|(place, text)| (text, place))
        .collect()
}

/// What the client of `ping` has received that has received most.
fn longest<'a>(history: &'a History<'_>) -> BTreeMap<&'a str, usize> {
    let lives = history.clients_of("ping");
    let most = lives.max_by_key(|(_, life)| life.received.len());
    let received = most.into_iter().flat_map(|(_, life)| &life.received);
    let texts = received.map(|said| &*said.text);
    places(texts.filter(|text| !text.starts_with("binary ")))
}

/// What is missing between two messages is told between them; of messages that are not in this
/// order so many more may be, if that is known.
fn gaps(
    life: &Life,
    order: &BTreeMap<&str, usize>,
    others: Option<u64>,
) -> Result<(), (u64, String)> {
    let mut last: Option<(usize, u64)> = None;
    for said in &life.received {
        let Some(place) = order.get(said.text.as_str()).copied() else {
            continue;
        };
        if let Some((before, n)) = last {
            let missing = place.saturating_sub(before + 1) as u64;
            let told = lagged(life, n, said.n);
            let most = others.map_or(u64::MAX, |others| missing + others);
            if !(missing..=most).contains(&told) {
                let text = format!("misses {missing} messages, and was told of {told}");
                return Err((said.t, text));
            }
        }
        last = Some((place, said.n));
    }
    Ok(())
}

/// The instances that a client was told of were started, one after the other.
fn restarts(history: &History<'_>, life: &Life) -> Result<(), (u64, String)> {
    let name = name(&life.service).unwrap_or_else(|| life.service.clone());
    let started: BTreeSet<u64> = history
        .logged(&name, "service started")
        .map(|(_, generation)| generation)
        .collect();
    let mut last = 0;
    for (n, notice) in &life.told {
        let Notice::Restarted { generation } = notice else {
            continue;
        };
        if !started.contains(generation) || *generation <= last {
            let t = history.entries.get(*n as usize).map_or(0, |entry| entry.t);
            let text = format!("was told of generation {generation} after {last}");
            return Err((t, text));
        }
        last = *generation;
    }
    Ok(())
}
