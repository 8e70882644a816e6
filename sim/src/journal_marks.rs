//! The hard situations of rooms with a history that a run of the whole server has reached.

use std::collections::BTreeSet;

use crate::checker::{History, visits};
use crate::frames::Seen;
use crate::journal::{Journal, Recovering};
use crate::past::{Fact, Placed};
use crate::plan::Plan;
use crate::trace::Trace;

/// The situations, each with the reason that a client was told.
const WHYS: [(&str, &str); 5] = [
    ("ahead", "not recovered: ahead"),
    ("epoch", "not recovered: epoch"),
    ("evicted", "not recovered: evicted"),
    ("expired", "not recovered: expired"),
    ("too_many", "not recovered: too many"),
];

/// The situations that a run has reached.
pub(crate) fn reached(plan: &Plan, trace: &Trace) -> BTreeSet<&'static str> {
    let mut marks = BTreeSet::new();
    let Some(journal) = plan.wild.as_ref().and_then(|wild| wild.journal) else {
        return marks;
    };
    let history = History::new(plan, trace);
    for visit in visits(&history) {
        let is_refused = visit.status() == Some(403);
        mark(&mut marks, "history refused to a client", is_refused);
        let told: Vec<&Seen> = visit.told().map(|(_, seen)| seen).collect();
        let is_lost = told.iter().any(|seen| matches!(seen, Seen::Notice(_)));
        mark(&mut marks, "loss told to a client of a history", is_lost);
        for (seen, name) in [
            ("reply to a text with an id", is_told as fn(&Fact) -> bool),
            ("reading of a history by a client", is_page),
        ] {
            let is_it = |it: &&Seen| matches!(it, Seen::Fact(fact) if name(fact));
            mark(&mut marks, seen, told.iter().any(is_it));
        }
        if let Some(fact) = visit.greeting() {
            let recovers = matches!(fact, Fact::Recovered { why: None, .. });
            let over = "recovered over a planned restart";
            mark(&mut marks, over, visit.goes_on && recovers);
            let offset = told.iter().find_map(|seen| offset(seen));
            marks.extend(greeted(fact, offset, journal));
        } else {
            let is_off = journal.recovery == Recovering::Off && !told.is_empty();
            mark(&mut marks, "client of a history without recovery", is_off);
        }
    }
    marks
}

fn mark(marks: &mut BTreeSet<&'static str>, mark: &'static str, is_reached: bool) {
    if is_reached {
        marks.insert(mark);
    }
}

/// Whether it is the reply to a text.
fn is_told(fact: &Fact) -> bool {
    matches!(fact, Fact::Published { .. })
}

/// Whether it is the reply to a reading.
fn is_page(fact: &Fact) -> bool {
    matches!(fact, Fact::Page { .. })
}

/// The offset of a text.
fn offset(seen: &Seen) -> Option<u64> {
    if let Seen::Placed(Placed { offset, .. }) = seen {
        return *offset;
    }
    None
}

/// The situation of a client that was told this first, and then was given this offset.
fn greeted(fact: &Fact, first: Option<u64>, journal: Journal) -> Option<&'static str> {
    match fact {
        Fact::Position(place) => {
            let has_past = first.is_some_and(|first| first <= place.offset);
            let mark = match journal.recovery {
                Recovering::Newest => "newest message first",
                Recovering::Always | Recovering::Asked | Recovering::Off => "newest messages first",
            };
            has_past.then_some(mark)
        }
        Fact::Recovered { place, why: None } => {
            let has_missed = first.is_some_and(|first| first <= place.offset);
            has_missed.then_some("recovered")
        }
        Fact::Recovered { why: Some(why), .. } => {
            let mark = WHYS.iter().find(|(known, _)| known == why);
            mark.map(|(_, mark)| *mark)
        }
        Fact::Answer { .. }
        | Fact::Company(_)
        | Fact::End { .. }
        | Fact::Page { .. }
        | Fact::Published { .. }
        | Fact::Refused { .. } => None,
    }
}
