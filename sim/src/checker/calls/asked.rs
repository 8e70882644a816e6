//! Asked: each request of a client to its room has one reply, of its own and true.

use std::collections::BTreeMap;

use super::Told;
use super::answers::{Answers, Waiting};
use crate::checker::conns::Conn;
use crate::checker::rooms::starts;
use crate::checker::{Breach, Checker, History};
use crate::frames::Seen;
use crate::inbound::inbound;
use crate::past::Fact;
use crate::rooms::{HALL, client_of, is_of, name};
use crate::speech::asked;
use crate::wild::Wild;

/// A request of a client is put to an instance of its room once at most, and has one reply on a
/// connection that lives: what the instance answered, or an error with a true code; at once where
/// the instance has answered, refused or dropped it, or is gone, and within the time for an answer
/// else.
pub struct Asked;

/// Requests of a client that may wait.
const MOST: usize = 16;

impl Checker for Asked {
    fn name(&self) -> &'static str {
        "asked"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(wild) = history.wild.as_ref().filter(|wild| wild.calls.is_some()) else {
            return Ok(());
        };
        let answers = Answers::of(history)?;
        let starts = starts(history);
        for conn in history.all_conns().values() {
            let path = conn.path().filter(|path| is_of(HALL, path));
            let Some(room) = path.and_then(name).filter(|_| conn.is_upgraded()) else {
                continue;
            };
            let asker = Asker {
                history,
                wild,
                answers: &answers,
                conn,
                client: client_of(conn.query()),
                room,
                server: starts.partition_point(|start| *start <= conn.first),
            };
            asker.judge()?;
        }
        Ok(())
    }
}

/// The number of the request that is replied to, and the answer.
fn reply(seen: &Seen) -> Option<(&u64, Told)> {
    let Seen::Fact(fact) = seen else {
        return None;
    };
    if let Fact::Answer { id, data } = fact {
        return Some((id, Told::Done(data.clone())));
    }
    if let Fact::Refused { id, code } = fact {
        return Some((id, Told::Fault(*code)));
    }
    None
}

/// A connection of a client that may put requests.
struct Asker<'h, 'a> {
    history: &'h History<'a>,
    wild: &'h Wild,
    answers: &'h Answers<'h, 'a>,
    conn: &'h Conn<'a>,
    client: u32,
    room: String,
    server: usize,
}

/// A request that was read, and when.
struct Read {
    tag: String,
    t: u64,
    is_answered: bool,
}

impl Asker<'_, '_> {
    fn judge(&self) -> Result<(), Breach> {
        let speech = self.conn.said().speech;
        let bytes = &self.conn.asked().bytes;
        let wholes = inbound(bytes, self.wild.message_bytes, speech);
        let mut asked_of: BTreeMap<u64, Read> = BTreeMap::new();
        for whole in wholes {
            if let Some((id, tag)) = whole.text.as_deref().and_then(asked) {
                let t = self.conn.read_by(whole.end);
                let is_answered = false;
                asked_of.insert(
                    id,
                    Read {
                        tag,
                        t,
                        is_answered,
                    },
                );
            }
        }
        for (t, seen) in &self.conn.said().seen {
            let Some((id, told)) = reply(seen) else {
                continue;
            };
            let breach = |text: String| {
                let (client, room) = (self.client, &self.room);
                Breach::new(*t, format!("client {client} of {room}: {text}"))
            };
            let count = asked_of.len();
            let read = asked_of.get_mut(id).filter(|read| read.t <= *t);
            let read = read.filter(|read| !read.is_answered);
            let read = read.ok_or_else(|| breach(format!("a reply to no request {id}")))?;
            read.is_answered = true;
            self.is_true(read, &told, (*t, count)).map_err(breach)?;
        }
        self.are_answered(asked_of.values())
    }

    fn is_true(&self, read: &Read, told: &Told, (t, count): (u64, usize)) -> Result<(), String> {
        if *told == Told::Fault(111) && count > MOST {
            return Ok(());
        }
        let handled = self.answers.handled(&read.tag);
        // What a service has no space for is dropped with a session that is closed.
        let is_closed = self.conn.closed().is_some_and(|(at, _)| at >= t);
        if *told == Told::Fault(100) && handled.is_none() && is_closed {
            return Ok(());
        }
        if let Some(handled) = handled.filter(|handled| handled.who != Some(self.client)) {
            return Err(format!("{} was put as that of {:?}", read.tag, handled.who));
        }
        let waiting = Waiting {
            tag: &read.tag,
            room: &self.room,
            server: self.server,
            since: read.t,
        };
        self.answers.judge(&waiting, told, t)
    }

    /// No request has waited too long for its answer, while the connection was of use.
    fn are_answered<'r>(&self, read: impl Iterator<Item = &'r Read>) -> Result<(), Breach> {
        // What waits for the rate of its client, or for a socket, is put or told later.
        if self.wild.makes_wait() || !self.conn.blocks.is_empty() {
            return Ok(());
        }
        let ended = self.ended();
        let accept = self.wild.accept_timeout_ms * 1_000;
        for read in read.filter(|read| !read.is_answered) {
            let handled = self.answers.handled(&read.tag);
            let put = handled.map_or(read.t + accept, |handled| handled.t);
            let due = self.answers.due(&read.tag, put);
            if due < ended {
                let (client, tag) = (self.client, &read.tag);
                let text = format!("client {client} has no answer to {tag}: {handled:?}");
                return Err(Breach::new(due, text));
            }
        }
        Ok(())
    }

    /// Until when the connection was certainly of use.
    fn ended(&self) -> u64 {
        let conn = self.conn;
        let life = self.history.clients.get(&self.client);
        let ends = [
            conn.shutdown,
            conn.failed,
            conn.dropped,
            conn.closed().map(|(t, _)| t),
            self.history.drained,
            // A client that leaves is owed nothing more.
            life.and_then(|life| life.leaving).map(|(t, _)| t),
            self.history.entries.last().map(|entry| entry.t),
        ];
        let next = self.history.crashes().find(|t| *t >= conn.accepted);
        ends.into_iter().flatten().chain(next).min().unwrap_or(0)
    }
}
