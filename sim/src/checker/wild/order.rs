//! Order: messages may be lost, if that is counted; they never come twice or in two orders.

use std::collections::BTreeMap;

use crate::checker::{Breach, Checker, History, Life, shorten};

/// What `echo` gives back is a part of what was sent, in order; what `ping` tells two clients has
/// one order; of what lies between two messages that a client has, it lacks no more than was
/// counted as lost.
pub struct Order;

impl Checker for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        let (mut echo_gaps, mut ping_gaps) = (0, 0);
        for (client, life) in history.clients_of("echo") {
            let sent = texts(life.sent.iter().map(|said| &said.text));
            echo_gaps += within(client, life, &sent)?;
        }
        let order = longest(history);
        for (client, life) in history.clients_of("ping") {
            ping_gaps += within(client, life, &order)?;
        }
        let lost = history.lost();
        if echo_gaps + ping_gaps > lost {
            let text = format!(
                "{echo_gaps} messages of echo and {ping_gaps} of ping are missing, {lost} counted"
            );
            return Err(Breach::new(end, text));
        }
        Ok(())
    }
}

/// Texts by their place.
fn texts<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let numbered = texts.enumerate();
    numbered
        .map(|(place, text)| (text.as_str(), place))
        .collect()
}

/// What the client of `ping` has received that has received most.
fn longest<'a>(history: &'a History<'_>) -> BTreeMap<&'a str, usize> {
    let most = history
        .clients_of("ping")
        .max_by_key(|(_, life)| life.received.len());
    let received = most.into_iter().flat_map(|(_, life)| &life.received);
    texts(received.map(|said| &said.text).filter(|text| is_text(text)))
}

/// Binary messages are not told apart.
fn is_text(text: &str) -> bool {
    !text.starts_with("binary ")
}

/// What is missing between the messages that a client has of this order.
fn within(client: u32, life: &Life, order: &BTreeMap<&str, usize>) -> Result<u64, Breach> {
    let mut gaps = 0;
    let mut last: Option<usize> = None;
    for said in &life.received {
        let Some(place) = order.get(said.text.as_str()).copied() else {
            if life.service == "echo" && is_text(&said.text) {
                let text = format!("client {client} received `{}`", shorten(&said.text));
                return Err(Breach::new(said.t, text + ", which it had not sent"));
            }
            continue;
        };
        if let Some(last) = last {
            if place <= last {
                let text = shorten(&said.text);
                let text =
                    format!("client {client} received `{text}`, number {place}, after {last}");
                return Err(Breach::new(said.t, text));
            }
            gaps += (place - last - 1) as u64;
        }
        last = Some(place);
    }
    Ok(gaps)
}
