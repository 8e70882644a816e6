//! The ledger: each call of a backend that was sent, what came of it, and what of it rooms may get.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::calls::{Call, told};
use crate::rooms::name;
use crate::trace::{Entry, Event};

/// All calls of a run. All times are microseconds.
#[derive(Default)]
pub(crate) struct Ledger<'a> {
    /// The calls in the order in which they were sent; one that was sent twice is two.
    pub(crate) tries: Vec<Try<'a>>,
    /// What was told as an answer to no call, and when.
    pub(crate) strays: Vec<(u64, &'a str)>,
    /// What was published, by the text that rooms get.
    words: BTreeMap<String, Word>,
    /// The paths of the rooms whose clients were to be closed.
    parted: BTreeSet<&'a str>,
}

/// A call that was sent.
pub(crate) struct Try<'a> {
    pub(crate) client: u32,
    pub(crate) link: u32,
    pub(crate) number: u32,
    /// The number of the server at that time.
    pub(crate) server: usize,
    pub(crate) t: u64,
    pub(crate) call: &'a Call,
    pub(crate) outcome: Outcome<'a>,
}

/// What came of a call.
#[derive(Clone, Copy)]
pub(crate) enum Outcome<'a> {
    Answered {
        t: u64,
        status: u16,
        body: &'a str,
    },
    /// Its connection ended before.
    Lost,
    /// It waits at the end of the run.
    Waiting,
}

/// What came of a command, alone or of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done(Value),
    /// With the code, or the status of a response that is none to a command.
    Fault(u64),
    /// There is no answer.
    Nothing,
}

/// Whether a text was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    Unknown,
    Sure,
}

/// The place of a text among those of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    client: u32,
    link: u32,
    place: usize,
}

impl Order {
    /// The connection: the backend and the number.
    pub(crate) fn link(self) -> (u32, u32) {
        (self.client, self.link)
    }
}

/// A text that a backend published.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// The name of the room.
    pub(crate) room: String,
    pub(crate) is_live: bool,
    /// `None` of one that was sent more than once.
    pub(crate) order: Option<Order>,
    fate: Fate,
}

impl<'a> Ledger<'a> {
    pub(crate) fn of(entries: &'a [Entry]) -> Self {
        let mut ledger = Self::default();
        let (mut server, mut sent) = (0, BTreeMap::new());
        for entry in entries {
            ledger.take(entry, &mut server, &mut sent);
        }
        let mut words = BTreeMap::new();
        for (place, one) in ledger.tries.iter().enumerate() {
            let order = Order {
                client: one.client,
                link: one.link,
                // A batch has fewer commands.
                place: place * 1_000,
            };
            one.publish(order, &mut words);
            let parts = one.call.each().iter().filter_map(|call| match call {
                Call::Disconnect { room } => Some(room.as_str()),
                Call::Batch { .. }
                | Call::HangUp
                | Call::History { .. }
                | Call::Publish { .. }
                | Call::Rpc { .. } => None,
            });
            ledger.parted.extend(parts);
        }
        ledger.words = words;
        ledger
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few events are of backends")]
    fn take(
        &mut self,
        entry: &'a Entry,
        server: &mut usize,
        sent: &mut BTreeMap<(u32, u32, u32), usize>,
    ) {
        match &entry.event {
            Event::Started => *server += 1,
            Event::Called {
                client,
                link,
                number,
                call,
            } => {
                sent.insert((*client, *link, *number), self.tries.len());
                self.tries.push(Try {
                    client: *client,
                    link: *link,
                    number: *number,
                    server: *server,
                    t: entry.t,
                    call,
                    outcome: Outcome::Waiting,
                });
            }
            Event::Answered {
                client,
                link,
                number,
                status,
                body,
            } => match sent.remove(&(*client, *link, *number)) {
                Some(place) => {
                    self.tries[place].outcome = Outcome::Answered {
                        t: entry.t,
                        status: *status,
                        body,
                    };
                }
                None => self.strays.push((entry.t, body)),
            },
            Event::Unanswered {
                client,
                link,
                number,
            } => {
                if let Some(place) = sent.remove(&(*client, *link, *number)) {
                    self.tries[place].outcome = Outcome::Lost;
                }
            }
            _ => {}
        }
    }

    /// The text of a backend, as rooms get it.
    pub(crate) fn word(&self, text: &str) -> Option<&Word> {
        self.words.get(text)
    }

    /// All texts that were certainly not published.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &str> {
        let refused = self
            .words
            .iter()
            .filter(|(_, word)| word.fate == Fate::Refused);
        refused.map(|(text, _)| text.as_str())
    }

    /// The texts that were sent more than once.
    pub(crate) fn retried(&self) -> impl Iterator<Item = &str> {
        let retried = self.words.iter().filter(|(_, word)| word.order.is_none());
        retried.map(|(text, _)| text.as_str())
    }

    /// The texts that a room certainly got between two of one connection.
    pub(crate) fn between(&self, room: &str, from: Order, to: Order) -> u64 {
        let is_between = |word: &&Word| {
            let is_it = |order: Order| order.link() == to.link() && from < order && order < to;
            word.room == room && word.fate == Fate::Sure && word.order.is_some_and(is_it)
        };
        self.words.values().filter(is_between).count() as u64
    }

    /// Whether a backend has asked for the end of the clients of the room with this path.
    pub(crate) fn has_parted(&self, path: &str) -> bool {
        self.parted.contains(path)
    }
}

impl Try<'_> {
    /// What came of each of its commands.
    ///
    /// # Errors
    ///
    /// When the answer is none to this call.
    pub(crate) fn told(&self) -> Result<Vec<Told>, String> {
        let each = self.call.each();
        let (status, body) = match self.outcome {
            Outcome::Answered { status, body, .. } => (status, body),
            Outcome::Lost | Outcome::Waiting => return Ok(vec![Told::Nothing; each.len()]),
        };
        if status != 200 {
            return Ok(vec![Told::Fault(status.into()); each.len()]);
        }
        let stray = || format!("`{}` was answered `{body}`", self.call.method());
        let mut value: Value = serde_json::from_str(body).map_err(|_| stray())?;
        if !matches!(self.call, Call::Batch { .. }) {
            let told = one(&mut value, "result").ok_or_else(stray)?;
            return Ok(vec![told]);
        }
        let replies = value.get_mut("replies").and_then(Value::as_array_mut);
        let replies = replies.filter(|replies| replies.len() == each.len());
        let replies = replies.ok_or_else(stray)?.iter_mut().zip(each);
        let told = replies.map(|(reply, call)| one(reply, call.method()));
        told.collect::<Option<_>>().ok_or_else(stray)
    }

    fn publish(&self, order: Order, words: &mut BTreeMap<String, Word>) {
        let told_of = self.told().unwrap_or_default();
        for (place, call) in self.call.each().iter().enumerate() {
            let Call::Publish {
                room, text, live, ..
            } = call
            else {
                continue;
            };
            let fate = match told_of.get(place) {
                Some(Told::Done(_)) => Fate::Sure,
                Some(Told::Fault(_)) => Fate::Refused,
                Some(Told::Nothing) | None => Fate::Unknown,
            };
            let order = Order {
                place: order.place + place,
                ..order
            };
            let word = Word {
                room: name(room).unwrap_or_default(),
                is_live: *live,
                order: Some(order),
                fate,
            };
            let known = words.entry(told(text));
            let again = known.and_modify(|known| {
                known.order = None;
                known.fate = known.fate.max(fate);
            });
            again.or_insert(word);
        }
    }
}

/// The result under this name, or the error.
fn one(value: &mut Value, name: &str) -> Option<Told> {
    if value.as_object()?.len() != 1 {
        return None;
    }
    if let Some(error) = value.get("error") {
        return Some(Told::Fault(error.get("code")?.as_u64()?));
    }
    value.get_mut(name).map(Value::take).map(Told::Done)
}

impl Word {
    /// Whether the history of this room may have it.
    pub(crate) fn may_be_kept(&self, room: &str) -> Result<(), String> {
        if self.room != room || self.is_live || self.fate == Fate::Refused {
            return Err(format!("has a text that is not for it: {self:?}"));
        }
        Ok(())
    }

    /// Whether a client of this room may get it; not a second time.
    pub(crate) fn may_be_heard(&self, room: &str, is_new: bool) -> Result<(), String> {
        if self.room != room || self.fate == Fate::Refused || !is_new {
            return Err(format!(
                "a client of {room} has a text again, or of others: {self:?}"
            ));
        }
        Ok(())
    }
}
