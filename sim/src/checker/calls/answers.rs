//! What instances of halls did with requests, and whether an answer is true by that.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Told;
use crate::checker::{Breach, History};
use crate::hall::REFUSED;
use crate::trace::{Event, Reply, Seen};

/// The code of what a service has dropped, or has not answered in time.
const INTERNAL: u64 = 100;

/// The code where no service runs, or none that reads requests.
const NOT_AVAILABLE: u64 = 108;

/// The code where too many requests wait.
const TOO_MANY: u64 = 111;

/// A request that an instance was put. All times are microseconds.
#[derive(Clone, Debug)]
pub(super) struct Handled {
    pub(super) room: String,
    generation: u64,
    pub(super) who: Option<u32>,
    pub(super) t: u64,
    gave: Option<(u64, Reply)>,
    /// When the instance was gone, if it had it still.
    ended: Option<u64>,
}

impl Handled {
    /// When it was certain what its answer is.
    pub(super) fn settled(&self) -> Option<u64> {
        self.gave.map(|(t, _)| t).or(self.ended)
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) tag: &'a str,
    /// The name of its room.
    pub(super) room: &'a str,
    /// The number of the server.
    pub(super) server: usize,
    /// When it cannot have been put yet.
    pub(super) since: u64,
}

/// All that instances were put in a run.
pub(super) struct Answers<'h, 'a> {
    history: &'h History<'a>,
    handled: BTreeMap<&'a str, Handled>,
    /// When instances of a room of a server were there.
    there: BTreeMap<(usize, &'a str), Vec<(u64, u64)>>,
    /// The time that a service has, in microseconds.
    timeout: u64,
}

impl<'h, 'a> Answers<'h, 'a> {
    /// Reads what instances saw.
    ///
    /// # Errors
    ///
    /// When a request was put to instances twice.
    pub(super) fn of(history: &'h History<'a>) -> Result<Self, Breach> {
        let calls = history.wild.as_ref().and_then(|wild| wild.calls);
        let mut answers = Self {
            history,
            handled: BTreeMap::new(),
            there: BTreeMap::new(),
            timeout: calls.map_or(0, |calls| calls.request_timeout_ms * 1_000),
        };
        let mut server = 0;
        for entry in history.entries {
            if entry.event == Event::Started {
                server += 1;
            }
            if let Event::Room {
                room,
                generation,
                seen,
            } = &entry.event
            {
                answers.saw((server, room), *generation, (entry.t, seen))?;
            }
        }
        Ok(answers)
    }

    fn saw(
        &mut self,
        (server, room): (usize, &'a str),
        generation: u64,
        (t, seen): (u64, &'a Seen),
    ) -> Result<(), Breach> {
        match seen {
            Seen::Began { .. } => {
                let there = self.there.entry((server, room)).or_default();
                there.push((t, u64::MAX));
            }
            Seen::Ended => {
                let there = self.there.entry((server, room)).or_default();
                there.iter_mut().for_each(|(_, end)| *end = (*end).min(t));
                let held = self.handled.values_mut();
                let held = held.filter(|handled| handled.is_of(room, generation));
                held.for_each(|handled| handled.ended = handled.ended.or(Some(t)));
            }
            Seen::Asked { who, tag, .. } => {
                let handled = Handled {
                    room: room.to_owned(),
                    generation,
                    who: *who,
                    t,
                    gave: None,
                    ended: None,
                };
                if self.handled.insert(tag, handled).is_some() {
                    return Err(Breach::new(t, format!("{room} was put {tag} again")));
                }
            }
            Seen::Gave { tag, answer } => {
                if let Some(handled) = self.handled.get_mut(tag.as_str()) {
                    handled.gave = Some((t, *answer));
                }
            }
            Seen::Dozes
            | Seen::Heard { .. }
            | Seen::Joined { .. }
            | Seen::Left { .. }
            | Seen::Said { .. }
            | Seen::Stopped
            | Seen::Wakes => {}
        }
        Ok(())
    }

    /// What became of a request at the instance that was put it.
    pub(super) fn handled(&self, tag: &str) -> Option<&Handled> {
        self.handled.get(tag)
    }

    /// The latest time at which the request has its answer, if it was put by then.
    pub(super) fn due(&self, tag: &str, put: u64) -> u64 {
        let late = put + self.timeout + self.history.grace;
        let settled = self.handled(tag).and_then(Handled::settled);
        settled.map_or(late, |t| late.min(t + self.history.grace))
    }

    /// Whether the answer at this time is true.
    pub(super) fn judge(&self, of: &Waiting<'_>, told: &Told, t: u64) -> Result<(), String> {
        let handled = self.handled(of.tag).filter(|handled| handled.t <= t);
        if let Some(handled) = handled.filter(|handled| handled.room != of.room) {
            return Err(format!(
                "{} of {} was put to {}",
                of.tag, of.room, handled.room
            ));
        }
        let gave = handled
            .and_then(|handled| handled.gave)
            .filter(|(at, _)| *at <= t);
        let gave = gave.map(|(_, reply)| reply);
        let is_true = match told {
            Told::Done(data) => {
                gave == Some(Reply::Answer) && handled.is_some_and(|one| *data == one.answer(of))
            }
            Told::Fault(code) if *code == u64::from(REFUSED) => gave == Some(Reply::Refusal),
            Told::Fault(INTERNAL) => {
                // Of two things at one time each may be the first.
                gave == Some(Reply::Nothing)
                    || t + self.history.grace >= of.since + self.timeout
                    || match handled {
                        None => self.may_be_lost(of, t),
                        Some(one) => gave.is_none() && one.ended.is_some_and(|ended| ended <= t),
                    }
            }
            Told::Fault(NOT_AVAILABLE) => handled.is_none() && self.may_be_lost(of, t),
            Told::Fault(TOO_MANY) => handled.is_none() && self.may_be_full(),
            Told::Fault(_) | Told::Nothing => false,
        };
        if is_true {
            return Ok(());
        }
        Err(format!(
            "{of:?} was answered {told:?}, and the instance says {handled:?}"
        ))
    }

    /// Whether there was a time without an instance of the room while the request waited.
    fn may_be_lost(&self, of: &Waiting<'_>, t: u64) -> bool {
        let there = self.there.get(&(of.server, of.room));
        let covers = |(from, to): &(u64, u64)| *from < of.since && t < *to;
        !there.is_some_and(|there| there.iter().any(covers))
    }

    /// Whether an inbox may be full.
    fn may_be_full(&self) -> bool {
        let wild = self.history.wild.as_ref();
        wild.is_some_and(|wild| wild.window_messages < 256 || wild.window_bytes < 1 << 20)
    }
}

impl Handled {
    fn is_of(&self, room: &str, generation: u64) -> bool {
        self.room == room && self.generation == generation
    }

    /// The answer of halls.
    fn answer(&self, of: &Waiting<'_>) -> Value {
        json!([of.tag, self.generation.to_string()])
    }
}
