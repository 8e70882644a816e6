//! A follower of a room with a history: its client is given one message after the other.

use std::collections::BTreeSet;

use super::chronicle::{Chronicle, Kept};
use crate::frames::Seen;
use crate::journal::Journal;
use crate::past::{Fact, Placed};
use crate::speech::Notice;

/// The place of a client while what it was told is read.
#[derive(Debug)]
pub(super) struct Follower {
    client: u32,
    journal: Journal,
    /// The newest offset when it joined, at the least and at the most.
    joined: (u64, u64),
    /// The offset of the last message that it has, at the least and at the most.
    last: (u64, u64),
    /// Messages that it was told it has lost, and that no offset has shown yet.
    lost: u64,
    tells: Tells,
    /// Messages that it lacks and was not told of, as it can be told nothing.
    pub(super) missing: u64,
    /// Texts that no history has taken.
    live: BTreeSet<String>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    /// Texts, their offsets, losses, and positions.
    All,
    /// The same without positions.
    NoPositions,
    Texts,
}

/// The history at the moment at which the client is told something.
pub(super) struct Moment<'a> {
    pub(super) chronicle: &'a mut Chronicle,
    pub(super) t: u64,
    pub(super) grace: u64,
    /// Whether it is a text of a backend that no history has taken.
    pub(super) is_live: bool,
}

impl Follower {
    pub(super) fn new(client: u32, journal: Journal, joined: (u64, u64), last: (u64, u64)) -> Self {
        Self {
            client,
            journal,
            joined,
            last,
            lost: 0,
            tells: Tells::All,
            missing: 0,
            live: BTreeSet::new(),
        }
    }

    /// The same of a client that is told no positions.
    pub(super) fn without_positions(self, is_json: bool) -> Self {
        let tells = if is_json {
            Tells::NoPositions
        } else {
            Tells::Texts
        };
        Self { tells, ..self }
    }

    /// Takes a text that no history has taken.
    fn live(&mut self, text: &str, offset: Option<u64>) -> Result<(), String> {
        if let Some(offset) = offset {
            return Err(format!("was given `{text}` at {offset}, which is live"));
        }
        if !self.live.insert(text.to_owned()) {
            return Err(format!("was given `{text}` again"));
        }
        Ok(())
    }

    /// Takes what it is told next.
    pub(super) fn take(&mut self, seen: &Seen, moment: Moment<'_>) -> Result<(), String> {
        if let (Seen::Placed(Placed { text, offset }), true) = (seen, moment.is_live) {
            return self.live(text, *offset);
        }
        if let (Seen::Text(text), true) = (seen, moment.is_live) {
            return self.live(text, None);
        }
        match (seen, self.tells) {
            (Seen::Notice(Notice::Lagged { messages }), _) => {
                self.lost += messages;
                Ok(())
            }
            (Seen::Placed(Placed { text, offset }), Tells::All | Tells::NoPositions) => {
                let offset = offset.ok_or("was given a text without an offset")?;
                moment.chronicle.place(offset, text)?;
                self.given(text)?;
                match self.tells {
                    Tells::All => self.reach(offset, &moment),
                    Tells::NoPositions | Tells::Texts => self.heard(text, &moment),
                }
            }
            (Seen::Text(text), Tells::Texts) => {
                self.given(text)?;
                self.heard(text, &moment)
            }
            (Seen::Fact(Fact::Position(place)), Tells::All) => {
                if self.journal.echo || place.epoch != moment.chronicle.epoch {
                    return Err(format!("was told {place:?} for no reason"));
                }
                self.pass(place.offset, &moment)
            }
            _ => Err(format!("was told {seen:?}")),
        }
    }

    fn given(&self, text: &str) -> Result<(), String> {
        if !self.journal.echo && sender(text) == Some(self.client) {
            return Err(format!("was given its own `{text}`"));
        }
        Ok(())
    }

    /// Moves on to a message; those between are lost, and told.
    fn reach(&mut self, offset: u64, moment: &Moment<'_>) -> Result<(), String> {
        let (least, most) = self.last;
        let lost = std::mem::take(&mut self.lost);
        let before = offset.checked_sub(lost + 1);
        let Some(before) = before.filter(|before| (least..=most).contains(before)) else {
            return Err(format!(
                "was given {offset} after {least} to {most}, and was told of {lost} lost messages"
            ));
        };
        self.last = (offset, offset);
        self.is_gone(before, offset - 1, moment)
    }

    /// A client that reads the history has lost no message that is there, up to the lost one.
    fn is_gone(&self, before: u64, lost: u64, moment: &Moment<'_>) -> Result<(), String> {
        // The history is the window up to the place where the client joined.
        let last = if self.journal.reads_on() {
            lost
        } else {
            lost.min(self.joined.0)
        };
        let kept = Kept {
            chronicle: moment.chronicle,
            journal: self.journal,
            grace: moment.grace,
        };
        let top = moment.chronicle.top_by(moment.t + moment.grace);
        if last > before && kept.whys(last, top, moment.t).is_empty() {
            return Err(format!("has lost {last}, which is there"));
        }
        Ok(())
    }

    /// Moves on to a message of a client that is not told of its own ones.
    fn heard(&mut self, text: &str, moment: &Moment<'_>) -> Result<(), String> {
        let (least, most) = self.last;
        let lost = std::mem::take(&mut self.lost);
        // Between two looks at a history it may take a message and drop it.
        let Some(offset) = moment.chronicle.offset(text) else {
            self.last = (least, u64::MAX);
            return Ok(());
        };
        if offset <= least {
            return Err(format!("was given `{text}` at {offset} after {least}"));
        }
        self.last = (offset, offset);
        let mut between = most.saturating_add(1)..offset;
        let text = |offset: &u64| moment.chronicle.text(*offset);
        // A message that was not seen may be its own.
        let is_other = |text: &str| sender(text) != Some(self.client);
        let of_others = |offset: &u64| self.journal.echo || text(offset).is_some_and(is_other);
        let others = between.clone().filter(of_others).count() as u64;
        if self.tells == Tells::Texts {
            self.missing += others;
        } else if others > lost || lost > offset - least - 1 {
            return Err(format!(
                "was given {offset} after {most}, and was told of {lost} lost messages"
            ));
        }
        match between.next_back().filter(|_| others > 0) {
            Some(last) => self.is_gone(most, last, moment),
            None => Ok(()),
        }
    }

    /// The position rises over messages of its own.
    fn pass(&mut self, offset: u64, moment: &Moment<'_>) -> Result<(), String> {
        let (least, most) = self.last;
        // The newest message, with which a client begins, may be the one that it has lost.
        let begins = self.lost > 0 && offset < most + self.lost + 1;
        let first = if begins { least } else { most } + self.lost + 1;
        if offset < first {
            let (last, lost) = (self.last.1, self.lost);
            return Err(format!("was told {offset} after {last} and {lost} lost"));
        }
        for offset in first..=offset {
            let text = moment.chronicle.text(offset);
            if let Some(text) = text.filter(|text| sender(text) != Some(self.client)) {
                return Err(format!("was not given `{text}`"));
            }
            if !begins {
                self.last.0 = self.last.0.max(self.last.1);
            }
            self.reach(offset, moment)?;
        }
        Ok(())
    }

    /// Whether it has all messages up to this one, or knows of their loss.
    pub(super) fn has(&self, offset: u64) -> Result<(), String> {
        let (last, lost) = (self.last.1, self.lost);
        if self.tells == Tells::All && last.saturating_add(lost) < offset {
            return Err(format!("stands at {last} of {offset}, and lost {lost}"));
        }
        Ok(())
    }
}

/// The client that has sent a text.
fn sender(text: &str) -> Option<u32> {
    text.split(' ').nth(2)?.parse().ok()
}
