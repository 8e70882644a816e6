//! The replies to requests of a client of a room with a history.

use std::collections::{BTreeMap, BTreeSet};

use super::chronicle::Chronicle;
use super::follower::Moment;
use super::visit::Visit;
use crate::checker::History;
use crate::journal::Journal;
use crate::past::{Fact, Place};
use crate::wild::Deed;

/// The code where a client may not read.
const FORBIDDEN: u64 = 103;

/// The requests of a client, and the replies that it has had.
pub(super) struct Replies<'a> {
    journal: Journal,
    asked: u64,
    /// The texts that want a reply, by their numbers.
    texts: BTreeMap<u64, &'a str>,
    readings: BTreeSet<u64>,
    had: BTreeSet<u64>,
}

impl<'a> Replies<'a> {
    pub(super) fn new(visit: &Visit<'_>, history: &'a History<'_>, journal: Journal) -> Self {
        let mut replies = Self {
            journal,
            asked: visit.asked,
            texts: BTreeMap::new(),
            readings: BTreeSet::new(),
            had: BTreeSet::new(),
        };
        let life = history.clients.get(&visit.client);
        for (_, deed) in life.into_iter().flat_map(|life| &life.deeds) {
            if let Deed::Tell { id, text } = deed {
                replies.texts.insert(*id, text);
            }
            if let Deed::Read { id } = deed {
                replies.readings.insert(*id);
            }
        }
        replies
    }

    /// Takes a reply.
    pub(super) fn take(&mut self, fact: &Fact, moment: Moment<'_>) -> Result<(), String> {
        let (Fact::Answer { id, .. }
        | Fact::Page { id, .. }
        | Fact::Published { id, .. }
        | Fact::Refused { id, .. }) = fact
        else {
            return Ok(());
        };
        if !self.had.insert(*id) {
            return Err(format!("has a second reply to {id}"));
        }
        let is_read = self.readings.contains(id);
        match (fact, self.texts.get(id)) {
            (Fact::Published { place, .. }, Some(text)) => {
                let place = place.as_ref().ok_or("was told no place of its text")?;
                is_at(place, (0, u64::MAX), &moment)?;
                moment.chronicle.place(place.offset, text)
            }
            (Fact::Refused { code, .. }, _) if is_read && self.journal.is_private => {
                let is_right = *code == FORBIDDEN;
                is_right
                    .then_some(())
                    .ok_or_else(|| format!("was refused with {code}"))
            }
            (Fact::Page { place, texts, .. }, _) if is_read && !self.journal.is_private => {
                self.page(place, texts, moment)
            }
            _ => Err(format!("has a reply to no request: {fact:?}")),
        }
    }

    /// What was read is what is there, up to the position.
    fn page(
        &self,
        place: &Place,
        texts: &[(u64, String)],
        moment: Moment<'_>,
    ) -> Result<(), String> {
        is_at(place, (self.asked, moment.t), &moment)?;
        let mut next = texts
            .first()
            .map_or(place.offset + 1, |(offset, _)| *offset);
        for (offset, text) in texts {
            if *offset != next {
                return Err(format!("read {offset} in the place of {next}"));
            }
            moment.chronicle.place(*offset, text)?;
            next += 1;
        }
        let is_whole = next == place.offset + 1;
        is_whole
            .then_some(())
            .ok_or_else(|| format!("read up to {next}, not to {place:?}"))
    }

    /// A text that has a place up to this one has its reply.
    pub(super) fn are_all(&self, chronicle: &Chronicle, top: u64) -> Result<(), String> {
        let is_placed = |text: &str| chronicle.offset(text).is_some_and(|offset| offset <= top);
        let mut texts = self.texts.iter();
        match texts.find(|(id, text)| is_placed(text) && !self.had.contains(id)) {
            Some((id, text)) => Err(format!("has no reply to {id}, `{text}`")),
            None => Ok(()),
        }
    }
}

/// Whether the place may be the position, between these times.
fn is_at(place: &Place, (from, to): (u64, u64), moment: &Moment<'_>) -> Result<(), String> {
    let chronicle = &moment.chronicle;
    let low = chronicle.top_before(from);
    let high = chronicle.top_by(to.min(moment.t) + moment.grace);
    // A history that nobody has used is none.
    let is_its = place.epoch == chronicle.epoch || place.offset == 0;
    if is_its && (low..=high).contains(&place.offset) {
        return Ok(());
    }
    let epoch = &chronicle.epoch;
    Err(format!(
        "was told {place:?}, and is at {epoch}, {low} to {high}"
    ))
}
