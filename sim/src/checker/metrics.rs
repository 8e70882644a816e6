//! Metrics: what the application counts is what went over its sockets.

use super::conns::Conn;
use super::{Breach, Checker, History};
use crate::frames::Seen;
use crate::inbound::inbound;
use crate::speech;
use crate::trace::{Event, Held};

/// Each counter of the sessions, counted again from the bytes on the sockets and from the log.
///
/// Exactly, where that can be seen from outside. What a session had read and not decoded when it
/// ended is not known: of `messages_in` and `bytes_in` there is a least and a most, which differ by
/// what came with the last read of a connection. A ping that was not written is known of at most
/// once a connection that had no close frame; a refusal that was not written, once a connection
/// without any response.
pub struct Metrics;

impl Checker for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(held) = history.held else {
            return Ok(());
        };
        let end = history.entries.last().map_or(0, |entry| entry.t);
        let recount = Recount::of(history);
        match recount.facts(held).iter().find(|fact| !fact.holds()) {
            None => Ok(()),
            Some(fact) => Err(Breach::new(end, fact.to_string())),
        }
    }
}

/// What a counter may be.
struct Fact {
    counter: &'static str,
    counted: u64,
    least: u64,
    most: u64,
}

impl Fact {
    fn holds(&self) -> bool {
        (self.least..=self.most).contains(&self.counted)
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            counter,
            counted,
            least,
            most,
        } = self;
        write!(f, "{counter} is {counted}, and not {least} to {most}")
    }
}

#[derive(Default)]
struct Recount {
    opened: u64,
    closed: u64,
    refused: u64,
    unanswered: u64,
    messages_out: u64,
    bytes_out: u64,
    pings: u64,
    /// Connections on which a ping may have been left in the outbox.
    cut_short: u64,
    /// Requests of backends, which their services may have been handed.
    requests: u64,
    least: Sum,
    most: Sum,
}

/// Messages, and the bytes of their payloads.
#[derive(Default)]
struct Sum {
    messages: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

impl Recount {
    fn of(history: &History<'_>) -> Self {
        let mut recount = Self::default();
        let calls = history.ledger().tries.iter();
        recount.requests = calls.map(|call| call.call.rpcs()).sum();
        for entry in history.epoch() {
            if let Event::Log { message, .. } = &entry.event {
                match message.as_str() {
                    "session opened" => recount.opened += 1,
                    "session closed" => recount.closed += 1,
                    _ => {}
                }
            }
        }
        let message_bytes = history
            .wild
            .as_ref()
            .map_or(MESSAGE_BYTES, |w| w.message_bytes);
        for (_, conn) in history.conns().filter(|(_, conn)| !conn.is_call()) {
            recount.take(conn, message_bytes);
        }
        recount
    }

    fn take(&mut self, conn: &Conn<'_>, message_bytes: usize) {
        match conn.status() {
            Some(101) => {}
            Some(403 | 503) => self.refused += 1,
            Some(_) => {}
            // Whatever it was to be told, nothing of it was written as far as to the status.
            None => self.unanswered += 1,
        }
        let said = conn.said();
        if conn.refused_by_name().is_some() {
            self.bytes_out += said.bytes;
            for whole in inbound(&conn.asked().bytes, message_bytes, said.speech) {
                self.most.add(whole.bytes);
            }
            return;
        }
        if !conn.is_upgraded() {
            return;
        }
        self.unanswered += u64::from(conn.may_be_refused());
        self.bytes_out += said.bytes;
        let mut is_cut_short = true;
        for (_, seen) in &said.seen {
            match seen {
                Seen::Binary(_) | Seen::Placed(_) | Seen::Text(_) => self.messages_out += 1,
                Seen::Ping(_) => self.pings += 1,
                // Of a session that is cut off, what has not begun is left out before the close.
                Seen::Close(code) => is_cut_short = *code == Some(1013),
                Seen::Fact(_) | Seen::Head(_) | Seen::Notice(_) | Seen::Pong => {}
            }
        }
        self.cut_short += u64::from(is_cut_short);
        let asked = conn.asked();
        let mut is_sure = true;
        for whole in inbound(&asked.bytes, message_bytes, said.speech) {
            self.most.add(whole.bytes);
            is_sure &= whole.end <= asked.before;
            let is_reading = whole.text.as_deref().is_some_and(speech::is_reading);
            if is_sure && !is_reading {
                // A session that closes counts what is in the frame, and opens no envelope.
                self.least.add(whole.said.unwrap_or(0));
                is_sure = whole.said.is_some();
            }
        }
    }

    fn facts(&self, held: &Held) -> [Fact; 9] {
        let fact = |counter, counted, least, most| Fact {
            counter,
            counted,
            least,
            most,
        };
        let exactly = |counter, counted, is| fact(counter, counted, is, is);
        let taken = held.messages_in.saturating_sub(held.lost_not_taken);
        let sent = held.messages_out + held.lost_unsent + held.stale + held.excluded;
        [
            exactly("opened", held.opened, self.opened),
            exactly("closed", held.closed, self.closed),
            fact(
                "refused",
                held.refused,
                self.refused,
                self.refused + self.unanswered,
            ),
            exactly("messages_out", held.messages_out, self.messages_out),
            exactly("bytes_out", held.bytes_out, self.bytes_out),
            fact("pings", held.pings, self.pings, self.pings + self.cut_short),
            fact(
                "messages_in",
                held.messages_in,
                self.least.messages,
                self.most.messages,
            ),
            fact("bytes_in", held.bytes_in, self.least.bytes, self.most.bytes),
            // To sessions what those account for, to services at most what they were handed.
            fact(
                "delivered",
                held.delivered,
                sent,
                sent + taken + self.requests,
            ),
        ]
    }
}

/// The limit of a calm plan: the product's own.
const MESSAGE_BYTES: usize = 64 * 1024;
