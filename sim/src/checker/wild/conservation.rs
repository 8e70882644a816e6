//! Conservation: what the application has counted is what went over its sockets.

use crate::checker::{Breach, Checker, History};
use crate::frames::Seen;
use crate::trace::Held;

/// Messages written to sockets are those counted as sent, pings at most those counted; clients'
/// messages that came in were sent; of the deliveries, each is sent, lost or left out.
pub struct Conservation;

impl Checker for Conservation {
    fn name(&self) -> &'static str {
        "conservation"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        let Some(held) = history.held else {
            return Ok(());
        };
        let (mut messages, mut pings) = (0, 0);
        for (_, conn) in history.conns() {
            for (_, seen) in &conn.said().seen {
                match seen {
                    Seen::Binary(_) | Seen::Placed(_) | Seen::Text(_) => messages += 1,
                    Seen::Fact(fact) if fact.is_message() => messages += 1,
                    Seen::Ping(_) => pings += 1,
                    Seen::Close(_)
                    | Seen::Fact(_)
                    | Seen::Head(_)
                    | Seen::Notice(_)
                    | Seen::Pong => {}
                }
            }
        }
        // What came from a server before was sent by none of these.
        let lives = history.clients.values();
        let lives = lives.filter(|life| life.connecting >= history.started());
        let received = lives.map(|life| life.received.len());
        let facts = [
            ("messages out", held.messages_out == messages),
            ("pings", held.pings >= pings),
            ("received", received.sum::<usize>() as u64 <= messages),
            ("in", held.messages_in >= held.lost_not_taken),
            ("deliveries", sent_or_lost(held) <= held.delivered),
            ("pending", held.pending == 0),
        ];
        match facts.iter().find(|(_, holds)| !holds) {
            None => Ok(()),
            Some((what, _)) => {
                let text = format!("{what}: {messages} messages, {pings} pings seen, {held:?}");
                Err(Breach::new(end, text))
            }
        }
    }
}

fn sent_or_lost(held: &Held) -> u64 {
    held.messages_out + held.lost_unsent + held.stale + held.excluded
}
