//! Leases: a service counts the clients whose sessions are open, and no others.

use std::collections::BTreeMap;

use super::{Breach, Checker, History};
use crate::trace::Event;
use busline::limits::Limits;

/// The clients of a service are, at any time, at least those whose session is open and not about to
/// close, and at most those whose session is open or about to.
pub struct Leases;

impl Checker for Leases {
    fn name(&self) -> &'static str {
        "leases"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let sessions = sessions(history);
        let limits = match &history.wild {
            None => Limits::default(),
            Some(wild) => wild.limits(),
        };
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(0);
        let opening = micros(limits.handshake_timeout) + history.grace;
        let closing = micros(limits.close_timeout) + history.grace;
        let none = Vec::new();
        for entry in history.epoch() {
            let Event::Status {
                service, clients, ..
            } = &entry.event
            else {
                continue;
            };
            let t = entry.t;
            let of = sessions.get(service.as_str()).unwrap_or(&none);
            let is_sure = |s: &&Session| s.from() + history.grace <= t && t + closing < s.closed;
            let may_be = |s: &&Session| s.from() <= t + opening && t <= s.closed + history.grace;
            let (least, most) = (of.iter().filter(is_sure), of.iter().filter(may_be));
            let (least, most) = (least.count(), most.count());
            if !(least..=most).contains(clients) {
                let text =
                    format!("{service} has {clients} clients; {least} to {most} have a session");
                return Err(Breach::new(t, text));
            }
        }
        Ok(())
    }
}

/// A session by its log, in microseconds.
struct Session {
    /// `None` if its upgrade failed.
    opened: Option<u64>,
    closed: u64,
}

impl Session {
    /// When it was there; of a failed upgrade, when that was known.
    fn from(&self) -> u64 {
        self.opened.unwrap_or(self.closed)
    }
}

/// The sessions of each service.
fn sessions<'a>(history: &History<'a>) -> BTreeMap<&'a str, Vec<Session>> {
    let mut clients: BTreeMap<&str, (&str, Session)> = BTreeMap::new();
    let end = history.epoch().last().map_or(0, |entry| entry.t);
    for entry in history.epoch() {
        let Event::Log {
            message, fields, ..
        } = &entry.event
        else {
            continue;
        };
        let (Some(client), Some(service)) = (fields.get("client"), fields.get("service")) else {
            continue;
        };
        match message.as_str() {
            "session opened" => {
                // One that is never closed is there to the end, or to a crash.
                let session = Session {
                    opened: Some(entry.t),
                    closed: end,
                };
                clients.insert(client, (service, session));
            }
            "session closed" => {
                if let Some((_, session)) = clients.get_mut(client.as_str()) {
                    session.closed = entry.t;
                }
            }
            "upgrade failed" | "upgrade took too long" => {
                let session = Session {
                    opened: None,
                    closed: entry.t,
                };
                clients.insert(client, (service, session));
            }
            _ => {}
        }
    }
    let mut sessions: BTreeMap<&str, Vec<Session>> = BTreeMap::new();
    for (service, session) in clients.into_values() {
        sessions.entry(service).or_default().push(session);
    }
    sessions
}
