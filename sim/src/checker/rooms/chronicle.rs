//! Chronicles: the history of each room of each server, as it was seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::{Breach, History};
use crate::journal::{Journal, MESSAGE_BYTES_MOST};
use crate::rooms::name;
use crate::trace::Event;

/// The history of one room of one server. All times are microseconds.
#[derive(Debug)]
pub(in crate::checker) struct Chronicle {
    pub(in crate::checker) epoch: String,
    /// When it was seen to have grown, and its newest offset then.
    growth: Vec<(u64, u64)>,
    texts: BTreeMap<u64, String>,
    offsets: BTreeMap<String, u64>,
    /// Texts that may be there again: no server knows the keys of callers of the one before.
    again: BTreeSet<String>,
}

/// The chronicles by the number of the server and the name of the room.
pub(in crate::checker) type Chronicles = BTreeMap<(usize, String), Chronicle>;

/// Writes the chronicles: an epoch changes with a new server and by nothing else, and no two
/// histories have the same; a position never falls; each text was sent to the room, and has one
/// place.
pub(in crate::checker) fn chronicles(history: &History<'_>) -> Result<Chronicles, Breach> {
    let mut chronicles = Chronicles::new();
    let mut server = 0;
    let again: BTreeSet<String> = match history.has_restarted(u64::MAX) {
        true => history.ledger().retried().map(str::to_owned).collect(),
        false => BTreeSet::new(),
    };
    let (senders, words) = (senders(history), history.ledger());
    for entry in history.entries {
        if entry.event == Event::Started {
            server += 1;
        }
        let Event::Journal {
            room,
            epoch,
            top,
            texts,
        } = &entry.event
        else {
            continue;
        };
        let breach = |text: String| Breach::new(entry.t, format!("{room}: {text}"));
        let chronicle = chronicles.entry((history.line(server), room.clone()));
        let chronicle = chronicle.or_insert_with(|| Chronicle {
            again: again.clone(),
            ..Chronicle::new(epoch)
        });
        chronicle.grow(epoch, (entry.t, *top)).map_err(breach)?;
        for (offset, text) in texts {
            if let Some(word) = words.word(text) {
                word.may_be_kept(room).map_err(breach)?;
            } else if senders.get(text.as_str()) != Some(room) {
                return Err(breach(format!("`{text}` was not sent to it")));
            }
            chronicle.place(*offset, text).map_err(breach)?;
        }
    }
    let mut epochs = BTreeSet::new();
    for ((server, room), chronicle) in &chronicles {
        if !epochs.insert(&chronicle.epoch) {
            let (epoch, t) = (&chronicle.epoch, chronicle.growth[0].0);
            let text = format!("{room} of server {server} has the epoch {epoch} of another one");
            return Err(Breach::new(t, text));
        }
    }
    Ok(chronicles)
}

/// The room to which each text was sent.
fn senders<'a>(history: &'a History<'_>) -> BTreeMap<&'a str, String> {
    let mut senders = BTreeMap::new();
    for life in history.clients.values() {
        let room = name(&life.service).unwrap_or_default();
        let sent = life
            .sent
            .iter()
            .map(|said| (said.text.as_str(), room.clone()));
        senders.extend(sent);
    }
    senders
}

impl Chronicle {
    fn new(epoch: &str) -> Self {
        Self {
            epoch: epoch.to_owned(),
            growth: Vec::new(),
            texts: BTreeMap::new(),
            offsets: BTreeMap::new(),
            again: BTreeSet::new(),
        }
    }

    fn grow(&mut self, epoch: &str, (t, top): (u64, u64)) -> Result<(), String> {
        let last = self.growth.last().map_or(0, |(_, top)| *top);
        if self.epoch != epoch {
            // A history that nobody has used is none: a client was told of it if it is one.
            if last > 0 {
                return Err(format!("the epoch {} became {epoch}", self.epoch));
            }
            epoch.clone_into(&mut self.epoch);
        }
        if top < last {
            return Err(format!("the position fell from {last} to {top}"));
        }
        self.growth.push((t, top));
        Ok(())
    }

    /// Notes that a text has this place; no other text has it, and the text has no other.
    pub(in crate::checker) fn place(&mut self, offset: u64, text: &str) -> Result<(), String> {
        let other = self.texts.insert(offset, text.to_owned());
        if let Some(other) = other.filter(|other| other != text) {
            return Err(format!("`{text}` and `{other}` have the place {offset}"));
        }
        if self.again.contains(text) {
            return Ok(());
        }
        let other = self.offsets.insert(text.to_owned(), offset);
        match other.filter(|other| *other != offset) {
            Some(other) => Err(format!("`{text}` is at {offset} and at {other}")),
            None => Ok(()),
        }
    }

    pub(in crate::checker) fn text(&self, offset: u64) -> Option<&str> {
        self.texts.get(&offset).map(String::as_str)
    }

    pub(super) fn offset(&self, text: &str) -> Option<u64> {
        self.offsets.get(text).copied()
    }

    /// The newest offset for sure before this time.
    pub(in crate::checker) fn top_before(&self, t: u64) -> u64 {
        let place = self.growth.partition_point(|(at, _)| *at < t);
        place.checked_sub(1).map_or(0, |place| self.growth[place].1)
    }

    /// The newest offset that there may be at this time.
    pub(in crate::checker) fn top_by(&self, t: u64) -> u64 {
        self.top_before(t.saturating_add(1))
    }

    /// When a message was seen first.
    fn seen(&self, offset: u64) -> Option<u64> {
        let place = self.growth.partition_point(|(_, top)| *top < offset);
        self.growth.get(place).map(|(t, _)| *t)
    }
}

/// A chronicle with the bounds of its room.
#[derive(Clone, Copy)]
pub(in crate::checker) struct Kept<'a> {
    pub(in crate::checker) chronicle: &'a Chronicle,
    pub(in crate::checker) journal: Journal,
    /// How much later than it was any event may be seen.
    pub(in crate::checker) grace: u64,
}

/// The grain of ages.
const MILLISECOND: u64 = 1_000;

impl Kept<'_> {
    fn ttl(&self) -> u64 {
        self.journal.ttl_ms * MILLISECOND
    }

    /// Whether a message may have expired by this time.
    pub(super) fn may_be_old(&self, offset: u64, t: u64) -> bool {
        let seen = self.chronicle.seen(offset);
        seen.is_some_and(|seen| t + self.grace + MILLISECOND >= seen + self.ttl())
    }

    /// Whether a message has expired by this time for sure.
    fn is_old(&self, offset: u64, t: u64) -> bool {
        let seen = self.chronicle.seen(offset);
        seen.is_some_and(|seen| t >= seen + self.ttl() + MILLISECOND)
    }

    /// Whether a message was dropped for newer ones for sure, when `top` is the newest.
    fn is_evicted(&self, offset: u64, top: u64) -> bool {
        offset + self.journal.messages as u64 <= top
    }

    /// Whether the messages from this one to `top` may be more bytes than the room keeps.
    fn may_not_fit(&self, offset: u64, top: u64) -> bool {
        let messages = (top + 1).saturating_sub(offset);
        messages * MESSAGE_BYTES_MOST > self.journal.bytes as u64
    }

    /// Whether a message is not there for sure.
    pub(in crate::checker) fn is_gone(&self, offset: u64, top: u64, t: u64) -> bool {
        self.is_evicted(offset, top) || self.is_old(offset, t)
    }

    /// The true reasons why a message is not there.
    pub(super) fn whys(&self, offset: u64, top: u64, t: u64) -> Vec<&'static str> {
        let evicted = self.is_evicted(offset, top) || self.may_not_fit(offset, top);
        let whys = [
            ("evicted", evicted),
            ("expired", self.may_be_old(offset, t)),
        ];
        let whys = whys.into_iter().filter(|(_, is_true)| *is_true);
        whys.map(|(why, _)| why).collect()
    }

    /// The oldest message that must be there, or the place after `top`.
    pub(in crate::checker) fn sure(&self, top: u64, t: u64) -> u64 {
        let messages = self.journal.messages as u64;
        let from = (top + 1).saturating_sub(messages).max(1);
        let mut kept = from..=top;
        let first = kept.find(|offset| self.whys(*offset, top, t).is_empty());
        first.unwrap_or(top + 1)
    }
}
