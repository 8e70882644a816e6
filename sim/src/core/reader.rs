//! What a client of a journal is told, in the order in which it is told: each message after its
//! position once, and each loss with its count.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::annals::{Annals, sender};
use super::rules::Found;
use crate::journal::Journal;
use crate::past::{Fact, Place, Placed};

/// Something that a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Fact(Fact),
    Lagged(u64),
    Placed(Placed),
}

/// The first notice, as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// None: the client is told no position.
    Nothing,
    /// The present position: the client has not asked to recover.
    Present,
    /// The client recovers.
    Recovers,
    /// The client does not recover, for one of these reasons.
    Refused(Vec<&'static str>),
}

/// A request without a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To publish a text, live alone or not, perhaps after the end.
    Text {
        text: String,
        live: bool,
        is_late: bool,
    },
    /// To read so many texts, from this time on.
    Texts {
        limit: usize,
        reverse: bool,
        at: Duration,
    },
}

/// The code of the refusal of a text after the end.
const ENDED: u64 = 108;

/// The place from which a client reads on.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) client: u32,
    /// The position after which its messages come.
    pub(crate) after: u64,
    /// The position when it joined.
    pub(crate) place: Place,
    pub(crate) greeting: Greeting,
    pub(crate) at: Duration,
}

/// A client of a journal.
#[derive(Debug)]
pub(crate) struct Reader {
    bounds: Journal,
    begun: Begun,
    is_greeted: bool,
    /// The newest offset that it was given, or over which its position has risen.
    pub(crate) cursor: u64,
    /// Messages that it was told it has lost, and that no offset has shown yet.
    pub(crate) lost: u64,
    live: BTreeSet<String>,
    /// Live messages that it may have lost.
    live_lost: u64,
    pub(crate) asked: VecDeque<(u64, Asked)>,
    pub(crate) marks: BTreeSet<&'static str>,
    /// Whether it was told of the end of the stream.
    has_ended: bool,
    /// The newest offset when messages waited for it that had fallen out of the window.
    behind: Option<u64>,
}

/// The room of a client at the moment at which the client is told something.
pub(crate) struct Around<'a> {
    pub(crate) annals: &'a mut Annals,
    pub(crate) now: Duration,
    /// Messages that all rooms may keep.
    pub(crate) in_all: u64,
}

impl Reader {
    pub(crate) fn new(bounds: Journal, begun: Begun) -> Self {
        Self {
            bounds,
            cursor: begun.after,
            is_greeted: begun.greeting == Greeting::Nothing,
            begun,
            lost: 0,
            live: BTreeSet::new(),
            live_lost: 0,
            asked: VecDeque::new(),
            marks: BTreeSet::new(),
            has_ended: false,
            behind: None,
        }
    }

    /// Whether it was told of the end of its stream, and the offset of that end if there is one.
    pub(crate) fn end(&self, annals: &Annals) -> (bool, Option<u64>) {
        let end = annals.end_of(&self.begun.place.epoch);
        (self.has_ended, end)
    }

    /// Notes that messages up to `top` wait that have fallen out of the window.
    pub(crate) fn note_behind(&mut self, top: u64) {
        if !self.catches_up() && self.cursor < top {
            self.behind = Some(top);
        }
    }

    /// The position that it was told last; `None` before the first notice.
    pub(crate) fn position(&self) -> Option<Place> {
        self.is_greeted.then(|| Place {
            epoch: self.begun.place.epoch.clone(),
            offset: self.cursor,
        })
    }

    /// Whether it reads what was there when it joined.
    fn catches_up(&self) -> bool {
        self.cursor + self.lost < self.begun.place.offset
    }

    /// Takes what it is told next.
    pub(crate) fn take(&mut self, heard: &Heard, around: &mut Around<'_>) -> Found {
        match heard {
            _ if self.has_ended => Err(format!("was told {heard:?} after the end")),
            Heard::Fact(fact) if !self.is_greeted => self.greeted(fact),
            Heard::Lagged(_) | Heard::Placed(_) if !self.is_greeted => {
                Err(format!("was told {heard:?} before its position"))
            }
            Heard::Fact(Fact::Position(place)) => self.passed(place, around),
            Heard::Fact(Fact::End { text, offset }) => self.ended(text, *offset, around),
            Heard::Fact(fact) => self.replied(fact, around),
            Heard::Lagged(lost) => {
                let is_slow = self.bounds.reads_on() && !self.catches_up();
                self.mark("loss told although the client recovers", is_slow);
                let expires =
                    self.catches_up() && around.annals.is_old(self.cursor + 1, around.now);
                self.mark("expiry while a client catches up", expires);
                self.lost += lost;
                self.behind = None;
                Ok(())
            }
            Heard::Placed(Placed { text, offset: None }) => self.live(text, around),
            Heard::Placed(Placed {
                text,
                offset: Some(offset),
            }) => self.given(text, *offset, around),
        }
    }

    fn mark(&mut self, mark: &'static str, is_reached: bool) {
        if is_reached {
            self.marks.insert(mark);
        }
    }

    fn greeted(&mut self, fact: &Fact) -> Found {
        self.is_greeted = true;
        let Begun {
            place, greeting, ..
        } = &self.begun;
        let is_true = match (fact, greeting) {
            (Fact::Position(told), Greeting::Present) => told == place,
            (Fact::Recovered { place: told, why }, Greeting::Recovers) => {
                told == place && why.is_none()
            }
            (Fact::Recovered { place: told, why }, Greeting::Refused(whys)) => {
                let why = why.as_deref().unwrap_or_default();
                told == place && whys.contains(&why)
            }
            _ => false,
        };
        if is_true {
            return Ok(());
        }
        Err(format!(
            "was told {fact:?} instead of {greeting:?} at {place:?}, after {}",
            self.cursor
        ))
    }

    /// Moves the position to `offset`; what lies between must be lost, and told.
    fn reach(&mut self, offset: u64, around: &Around<'_>) -> Found {
        let cursor = self.cursor;
        if offset <= cursor {
            return Err(format!("was given {offset} after {cursor}"));
        }
        let (gap, lost) = (offset - cursor - 1, std::mem::take(&mut self.lost));
        if gap > lost + self.untold(cursor + 1..offset, around) {
            return Err(format!(
                "was given {offset} after {cursor}, and was told of {lost} lost messages"
            ));
        }
        // Live messages have no offset.
        self.live_lost += lost.saturating_sub(gap);
        if self.live.len() as u64 + self.live_lost > around.annals.live.len() as u64 {
            return Err(format!(
                "was given {offset} after {cursor}, and was told of {lost} lost messages, {} live",
                around.annals.live.len()
            ));
        }
        if gap > 0 {
            self.is_gone(offset - 1, around)?;
        }
        self.cursor = offset;
        let has_read_on = self.behind.is_some_and(|behind| behind <= offset);
        self.mark("slow client that read on from the history", has_read_on);
        Ok(())
    }

    /// The number of these messages over which the position rises without a word, as the client is
    /// told no positions: those that may be its own.
    fn untold(&self, between: std::ops::Range<u64>, around: &Around<'_>) -> u64 {
        if self.bounds.echo || self.begun.greeting != Greeting::Nothing {
            return 0;
        }
        let epoch = &self.begun.place.epoch;
        let is_own = |offset: &u64| {
            let text = around.annals.text(epoch, *offset);
            text.is_none_or(|text| sender(text) == Some(self.begun.client))
        };
        between.filter(is_own).count() as u64
    }

    /// A client that reads the history has lost no message that is there, up to the lost one.
    fn is_gone(&self, lost: u64, around: &Around<'_>) -> Found {
        let joined = self.begun.place.offset;
        // The history is the window up to the place where the client joined.
        let last = if self.bounds.reads_on() {
            lost
        } else {
            lost.min(joined)
        };
        // A client may read what it was sent when the history is forgotten.
        let is_present = around.annals.epoch.as_ref() == Some(&self.begun.place.epoch);
        let whys = around.annals.whys(last, around.now, around.in_all);
        if last > self.cursor && is_present && whys.is_empty() {
            return Err(format!("has lost {last}, which is there"));
        }
        Ok(())
    }

    fn given(&mut self, text: &str, offset: u64, around: &mut Around<'_>) -> Found {
        let joined = self.begun.place.offset;
        let recovered = self.begun.greeting == Greeting::Recovers && self.begun.after < joined;
        let at_once = offset == joined + 1 && around.annals.is_at(offset, self.begun.at);
        self.mark("publish at the seam of a recovery", recovered && at_once);
        self.reach(offset, around)?;
        let place = Place {
            epoch: self.begun.place.epoch.clone(),
            offset,
        };
        around.annals.place(&place, text)?;
        if around.annals.live.contains(text) {
            return Err(format!("was given the live `{text}` with an offset"));
        }
        if !self.bounds.echo && sender(text) == Some(self.begun.client) {
            return Err(format!("was given its own `{text}`"));
        }
        Ok(())
    }

    /// The end of the stream comes after all messages, and to clients that came after it, too.
    fn ended(&mut self, text: &str, offset: u64, around: &mut Around<'_>) -> Found {
        self.reach(offset, around)?;
        let place = Place {
            epoch: self.begun.place.epoch.clone(),
            offset,
        };
        around.annals.place(&place, text)?;
        let (_, end) = self.end(around.annals);
        if end != Some(offset) {
            return Err(format!("was told the end {offset} instead of {end:?}"));
        }
        self.has_ended = true;
        let came_later = offset <= self.begun.place.offset;
        self.mark("end told to a client that came later", came_later);
        Ok(())
    }

    fn live(&mut self, text: &str, around: &Around<'_>) -> Found {
        if !around.annals.live.contains(text) {
            return Err(format!("was given `{text}` without an offset"));
        }
        if !self.live.insert(text.to_owned()) {
            return Err(format!("was given the live `{text}` twice"));
        }
        Ok(())
    }

    /// The position rises over messages of its own.
    fn passed(&mut self, place: &Place, around: &mut Around<'_>) -> Found {
        let is_told = self.begun.greeting != Greeting::Nothing;
        if self.bounds.echo || place.epoch != self.begun.place.epoch || !is_told {
            return Err(format!("was told {place:?} for no reason"));
        }
        let first = self.cursor + self.lost + 1;
        if place.offset < first && around.annals.live.is_empty() {
            let (cursor, lost) = (self.cursor, self.lost);
            return Err(format!("was told {place:?} after {cursor} and {lost} lost"));
        }
        for offset in first.min(place.offset)..=place.offset {
            let epoch = place.epoch.clone();
            if around.annals.live.is_empty() {
                around
                    .annals
                    .pass(self.begun.client, Place { epoch, offset });
            }
            self.reach(offset, around)?;
        }
        Ok(())
    }

    fn replied(&mut self, fact: &Fact, around: &mut Around<'_>) -> Found {
        let id = match fact {
            Fact::Page { id, .. } | Fact::Published { id, .. } | Fact::Refused { id, .. } => *id,
            Fact::Answer { .. }
            | Fact::Company(_)
            | Fact::End { .. }
            | Fact::Position(_)
            | Fact::Recovered { .. } => {
                return Err(format!("was told {fact:?}"));
            }
        };
        let Some((_, asked)) = self.asked.pop_front().filter(|(asked, _)| *asked == id) else {
            return Err(format!("was told {fact:?}, and had not asked"));
        };
        match (fact, &asked) {
            // An instance has it, and decides what it publishes.
            (Fact::Published { place, .. }, Asked::Text { .. }) if self.bounds.is_hosted => {
                let told = place.as_ref();
                told.map_or(Ok(()), |place| {
                    Err(format!("was told {place:?} of a text it said"))
                })
            }
            (Fact::Refused { code: ENDED, .. }, Asked::Text { .. })
                if self.end(around.annals).1.is_some() =>
            {
                self.mark("request refused after the end", true);
                Ok(())
            }
            (
                Fact::Published { .. },
                Asked::Text {
                    text,
                    is_late: true,
                    ..
                },
            ) => Err(format!(
                "was told that `{text}` was published after the end"
            )),
            (Fact::Published { place: None, .. }, Asked::Text { live: true, .. }) => Ok(()),
            (
                Fact::Published {
                    place: Some(place), ..
                },
                Asked::Text {
                    live: false, text, ..
                },
            ) => {
                self.reached(place)?;
                around.annals.place(place, text)
            }
            (Fact::Page { place, texts, .. }, Asked::Texts { .. }) => {
                self.reached(place)?;
                page(&asked, place, texts, around)
            }
            _ => Err(format!("was told {fact:?} and had asked {asked:?}")),
        }
    }

    /// A reply follows the messages of which it speaks.
    fn reached(&self, place: &Place) -> Found {
        let is_known = place.epoch == self.begun.place.epoch;
        let is_untold = self.begun.greeting == Greeting::Nothing && !self.bounds.echo;
        if is_known && is_untold {
            return Ok(());
        }
        if is_known && place.offset <= self.cursor + self.lost {
            return Ok(());
        }
        let (cursor, lost) = (self.cursor, self.lost);
        Err(format!(
            "was told of {place:?} after {cursor} and {lost} lost"
        ))
    }

    /// A client that reads has all there is, once no task is ready, and the replies to all that it
    /// has asked, if its room takes that.
    pub(crate) fn at_rest(&self, annals: &Annals, is_taking: bool) -> Found {
        let top = annals.top();
        let (cursor, lost) = (self.cursor, self.lost);
        let is_untold = self.begun.greeting == Greeting::Nothing && !self.bounds.echo;
        let is_whole = match annals.live.is_empty() {
            _ if is_untold => cursor <= top,
            true => cursor + lost == top,
            false => cursor <= top && cursor + lost >= top,
        };
        if let (has_ended, Some(end)) = self.end(annals) {
            return Err(format!(
                "is there, and was told of the end {end}: {has_ended}"
            ));
        }
        if !self.is_greeted || !is_whole {
            return Err(format!("stands at {cursor} of {top}, and lost {lost}"));
        }
        match self.asked.front().filter(|_| is_taking) {
            None => Ok(()),
            Some(asked) => Err(format!("has no reply to {asked:?}")),
        }
    }
}

/// The page of a history: the texts that are left, in the order of the request.
pub(crate) fn page(
    asked: &Asked,
    place: &Place,
    texts: &[(u64, String)],
    around: &mut Around<'_>,
) -> Found {
    let Asked::Texts { limit, reverse, at } = asked else {
        return Ok(());
    };
    let mut texts = texts.to_vec();
    if *reverse {
        texts.reverse();
    }
    let offsets: Vec<u64> = texts.iter().map(|(offset, _)| *offset).collect();
    let is_row = offsets.windows(2).all(|pair| pair[1] == pair[0] + 1);
    // The newest is there, or what was asked for.
    let reaches = offsets.last().is_none_or(|last| *last == place.offset);
    let is_cut = offsets.len() == *limit && !*reverse;
    if !is_row || offsets.len() > *limit || !(reaches || is_cut) {
        return Err(format!("was given the page {offsets:?} of {place:?}"));
    }
    for (offset, text) in &texts {
        let epoch = place.epoch.clone();
        let offset = *offset;
        around.annals.place(&Place { epoch, offset }, text)?;
        if around.annals.epoch.as_ref() == Some(&place.epoch) && around.annals.is_old(offset, *at) {
            return Err(format!("was given the old `{text}` at {offset}"));
        }
    }
    Ok(())
}
