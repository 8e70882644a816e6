//! The history of one room, told again from outside: each publish with its time, and what may be
//! left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rules::Found;
use crate::journal::{Journal, MESSAGE_BYTES_MOST};
use crate::past::Place;

/// The history of one room.
#[derive(Debug)]
pub(crate) struct Annals {
    bounds: Journal,
    /// The epoch, as long as the room is known to have one.
    pub(crate) epoch: Option<String>,
    /// The epochs that were forgotten.
    past: BTreeSet<String>,
    /// The time of the publish of each offset, from 1.
    at: Vec<Duration>,
    /// The newest offset that was removed on request.
    removed: u64,
    removed_at: Duration,
    /// The time of the last use.
    used: Duration,
    pub(crate) has_readers: bool,
    texts: BTreeMap<Place, String>,
    places: BTreeMap<String, Place>,
    /// The offsets of the ends of streams, by their epochs.
    ends: BTreeMap<String, u64>,
    /// Whether the program or a client has asked for an end.
    pub(crate) may_end: bool,
    /// Texts that were published live.
    pub(crate) live: BTreeSet<String>,
    /// Offsets over which the position of a client has risen, without their texts: its own ones.
    passed: Vec<(u32, Place)>,
}

/// The state of a room at one moment, as the product tells it.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    pub(crate) now: Duration,
    pub(crate) place: Place,
    pub(crate) has_readers: bool,
    /// Whether the stream has ended.
    pub(crate) has_ended: bool,
    /// Whether more positions are kept than may be.
    pub(crate) is_crowded: bool,
    /// Messages that all rooms may keep.
    pub(crate) in_all: u64,
}

impl Annals {
    pub(crate) fn new(bounds: Journal) -> Self {
        Self {
            bounds,
            epoch: None,
            past: BTreeSet::new(),
            at: Vec::new(),
            removed: 0,
            removed_at: Duration::ZERO,
            used: Duration::ZERO,
            has_readers: false,
            texts: BTreeMap::new(),
            places: BTreeMap::new(),
            ends: BTreeMap::new(),
            may_end: false,
            live: BTreeSet::new(),
            passed: Vec::new(),
        }
    }

    /// The newest offset.
    pub(crate) fn top(&self) -> u64 {
        self.at.len() as u64
    }

    /// The offset of the end of the stream with this epoch.
    pub(crate) fn end_of(&self, epoch: &str) -> Option<u64> {
        self.ends.get(epoch).copied()
    }

    /// Whether the stream has ended: its newest offset is that of the end, which is kept as long as
    /// the position.
    pub(crate) fn has_ended(&self) -> bool {
        let epoch = self.epoch.as_deref();
        epoch.is_some_and(|epoch| self.end_of(epoch).is_some())
    }

    /// The newest offset of a message that may be dropped.
    pub(crate) fn last(&self) -> u64 {
        self.top() - u64::from(self.has_ended())
    }

    /// Whether the history is there for clients that come, without one at present.
    pub(crate) fn is_shelved(&self) -> bool {
        self.epoch.is_some() && !self.has_readers
    }

    /// Takes the position after a step; returns whether the one before was forgotten.
    pub(crate) fn take(&mut self, glance: &Glance) -> Result<bool, String> {
        let is_other = self
            .epoch
            .as_ref()
            .is_some_and(|own| *own != glance.place.epoch);
        let mut is_used = self.has_readers || glance.has_readers;
        if is_other {
            self.forget(glance)?;
        }
        if self.epoch.is_none() && (glance.has_readers || glance.place.offset > 0) {
            if self.past.contains(&glance.place.epoch) {
                return Err(format!("the epoch {} came back", glance.place.epoch));
            }
            self.epoch = Some(glance.place.epoch.clone());
            is_used = true;
        }
        let (top, offset) = (self.top(), glance.place.offset);
        if offset < top {
            return Err(format!("the position fell from {top} to {offset}"));
        }
        if offset > top && self.has_ended() {
            return Err(format!("the position rose from the end {top} to {offset}"));
        }
        if offset > top {
            let at = (top..offset).map(|_| glance.now);
            self.at.extend(at);
            is_used = true;
        }
        self.has_readers = glance.has_readers;
        if is_used {
            self.used = glance.now;
        }
        self.take_end(glance)?;
        Ok(is_other)
    }

    /// The stream ends once, and only if that was asked for; its end is its newest message.
    fn take_end(&mut self, glance: &Glance) -> Found {
        let (top, epoch) = (self.top(), self.epoch.clone().unwrap_or_default());
        match (self.has_ended(), glance.has_ended) {
            (false, false) | (true, true) => Ok(()),
            (true, false) => Err(format!("the end at {top} was forgotten")),
            (false, true) if !self.may_end => Err(format!("has ended at {top} for no reason")),
            (false, true) => {
                self.ends.insert(epoch, top);
                Ok(())
            }
        }
    }

    /// All messages but the end are removed on request.
    pub(crate) fn remove(&mut self, now: Duration) {
        (self.removed, self.removed_at) = (self.last(), now);
    }

    fn forget(&mut self, glance: &Glance) -> Found {
        let ttl = Duration::from_millis(self.bounds.position_ttl_ms);
        let last = self.last();
        let is_empty = self.kept(glance.now).1 > last || self.may_not_fit(last, glance.in_all);
        let is_old = is_empty && glance.now >= self.used + ttl;
        let may = !self.has_readers && (is_old || glance.is_crowded);
        let epoch = self.epoch.take().unwrap_or_default();
        if !may {
            let (used, now) = (self.used, glance.now);
            return Err(format!(
                "the epoch {epoch} was forgotten at {now:?}, last used at {used:?}, with readers: \
                 {}",
                self.has_readers
            ));
        }
        self.past.insert(epoch);
        self.at.clear();
        self.removed = 0;
        Ok(())
    }

    /// Whether all messages but the end were old at this moment.
    pub(crate) fn is_over(&self, then: Duration) -> bool {
        let is_removed = self.last() == self.removed && then >= self.removed_at;
        is_removed || self.is_old(self.last(), then)
    }

    /// Whether the position was to be forgotten at this moment.
    pub(crate) fn is_forgotten(&self, then: Duration) -> bool {
        let ttl = Duration::from_millis(self.bounds.position_ttl_ms);
        self.is_shelved() && self.is_over(then) && then >= self.used + ttl
    }

    fn age(&self, offset: u64, now: Duration) -> Duration {
        let index = usize::try_from(offset.saturating_sub(1)).unwrap_or(usize::MAX);
        let at = self.at.get(index);
        at.map_or(Duration::ZERO, |at| now.saturating_sub(*at))
    }

    /// Whether a message was published at this moment.
    pub(crate) fn is_at(&self, offset: u64, moment: Duration) -> bool {
        let index = usize::try_from(offset.saturating_sub(1)).unwrap_or(usize::MAX);
        self.at.get(index) == Some(&moment)
    }

    /// Whether a message may have expired; ages are counted in milliseconds since some moment.
    pub(crate) fn may_be_old(&self, offset: u64, now: Duration) -> bool {
        offset <= self.last()
            && self.age(offset, now) + Duration::from_millis(1) > self.bounds.ttl()
    }

    /// Whether a message has expired for sure.
    pub(crate) fn is_old(&self, offset: u64, now: Duration) -> bool {
        let age = self.age(offset, now);
        let is_whole = age.subsec_nanos().is_multiple_of(1_000_000);
        let more = Duration::from_millis(u64::from(!is_whole));
        offset <= self.last() && age >= self.bounds.ttl() + more
    }

    /// The first offsets from which messages may be there at the least and at the most, by their
    /// number and age alone.
    pub(crate) fn kept(&self, now: Duration) -> (u64, u64) {
        let end = self.last() + 1;
        let by_number = end.saturating_sub(self.bounds.messages as u64).max(1);
        let from = by_number.max(self.removed + 1);
        let first = |is_gone: &dyn Fn(u64) -> bool| (from..end).find(|it| !is_gone(*it));
        let least = first(&|it| self.is_old(it, now)).unwrap_or(end);
        let most = first(&|it| self.may_be_old(it, now)).unwrap_or(end);
        (least, most)
    }

    /// Whether the messages from this offset on may be more bytes than the room keeps.
    pub(crate) fn may_not_fit(&self, offset: u64, in_all: u64) -> bool {
        let messages = (self.top() + 1).saturating_sub(offset);
        messages * MESSAGE_BYTES_MOST > self.bounds.bytes as u64
            || in_all * MESSAGE_BYTES_MOST > self.bounds.bytes_in_all
    }

    /// The true reasons why a message is not there.
    pub(crate) fn whys(&self, offset: u64, now: Duration, in_all: u64) -> Vec<&'static str> {
        let messages = self.bounds.messages as u64;
        let is_evicted = offset + messages <= self.last() || self.may_not_fit(offset, in_all);
        let whys = [
            ("evicted", is_evicted),
            ("expired", self.may_be_old(offset, now)),
            ("removed", offset <= self.removed),
        ];
        let whys = whys.into_iter().filter(|(_, is_true)| *is_true);
        whys.map(|(why, _)| why).collect()
    }

    /// Notes that a text has this place, as a client or the program is told; no other text has it,
    /// and the text has no other.
    pub(crate) fn place(&mut self, place: &Place, text: &str) -> Found {
        if self.epoch.as_ref() == Some(&place.epoch) && place.offset > self.top() {
            let top = self.top();
            return Err(format!(
                "`{text}` has the place {}, above {top}",
                place.offset
            ));
        }
        let other = self.texts.insert(place.clone(), text.to_owned());
        if let Some(other) = other.filter(|other| other != text) {
            let offset = place.offset;
            return Err(format!("`{text}` and `{other}` have the place {offset}"));
        }
        let other = self.places.insert(text.to_owned(), place.clone());
        match other.filter(|other| other != place) {
            Some(other) => Err(format!("`{text}` is at {place:?} and at {other:?}")),
            None => Ok(()),
        }
    }

    /// The text at a place, if it is known.
    pub(crate) fn text(&self, epoch: &str, offset: u64) -> Option<&str> {
        let epoch = epoch.to_owned();
        self.texts.get(&Place { epoch, offset }).map(String::as_str)
    }

    /// Notes that the position of a client has risen over this place without a text.
    pub(crate) fn pass(&mut self, client: u32, place: Place) {
        self.passed.push((client, place));
    }

    /// A position rises without a text over the client's own texts alone.
    pub(crate) fn passed(&self) -> Found {
        for (client, place) in &self.passed {
            let text = self.texts.get(place);
            if let Some(text) = text.filter(|text| sender(text) != Some(*client)) {
                return Err(format!("client {client} was not given `{text}`"));
            }
        }
        Ok(())
    }
}

/// The client that has sent a text; `None` of a text of the program.
pub(crate) fn sender(text: &str) -> Option<u32> {
    text.split(' ').nth(2)?.parse().ok()
}
