//! Recovery: a client of a room with a history is told the truth about what it missed, and is given
//! each message after its position, once and in order.

use super::chronicle::{Chronicle, Chronicles, Kept, chronicles};
use super::follower::{Follower, Moment};
use super::replies::Replies;
use super::visit::{Visit, visits};
use crate::checker::{Breach, Checker, History};
use crate::frames::Seen;
use crate::journal::{Journal, Recovering};
use crate::past::{Fact, Place, Placed};

/// The epoch of a room is another one after the end of the server's process, and the same until
/// then. A client that shows a position recovers if and only if all messages after it are there, no
/// more than one recovery brings, and is told a true reason if not. After its position, or after
/// the newest messages that it asked for, it is given each message once and in order, or is told
/// how many it lost, which the history had lost before.
pub struct Recovery;

impl Checker for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(journal) = history.wild.as_ref().and_then(|wild| wild.journal) else {
            return Ok(());
        };
        let mut chronicles = chronicles(history)?;
        let mut missing = 0;
        for visit in visits(history) {
            let judge = Judge {
                history,
                journal,
                visit: &visit,
            };
            missing += judge.judge(&mut chronicles)?;
        }
        let end = history.entries.last().map_or(0, |entry| entry.t);
        if missing > history.lost() {
            let lost = history.lost();
            let text = format!("{missing} messages of journals are missing, {lost} counted");
            return Err(Breach::new(end, text));
        }
        Ok(())
    }
}

/// One visit that is judged.
struct Judge<'j, 'h> {
    history: &'j History<'h>,
    journal: Journal,
    visit: &'j Visit<'j>,
}

impl Judge<'_, '_> {
    /// The number of messages that the client lacks and was not told of, if it can be told.
    fn judge(&self, chronicles: &mut Chronicles) -> Result<u64, Breach> {
        let visit = self.visit;
        let breach = |t: u64, text: String| {
            let (client, room) = (visit.client, &visit.room);
            Breach::new(t, format!("client {client} of {room} {text}"))
        };
        if visit.status() != Some(101) {
            return self
                .refused()
                .map(|()| 0)
                .map_err(|text| breach(visit.answered, text));
        }
        if self.is_forbidden() {
            // A client that is refused by name may be gone before it is told.
            if visit.conn.may_be_refused() {
                return Ok(0);
            }
            let text = "reads a history that it may not read".to_owned();
            return Err(breach(visit.answered, text));
        }
        let key = (visit.server, visit.room.clone());
        // The server has crashed before anything was seen of the room.
        let Some(chronicle) = chronicles.get_mut(&key) else {
            return Ok(0);
        };
        let mut follower = self
            .follower(chronicle)
            .map_err(|text| breach(visit.answered, text))?;
        let mut replies = Replies::new(visit, self.history, self.journal);
        let is_told = self.journal.recovery != Recovering::Off && visit.is_json();
        for (t, seen) in visit.told().skip(usize::from(is_told)) {
            let moment = Moment {
                chronicle,
                t,
                grace: self.history.grace,
                is_live: self.is_live(seen),
            };
            if matches!(seen, Seen::Close(_)) {
                break;
            }
            let found = if let Seen::Fact(fact) = seen
                && fact.is_reply()
            {
                replies.take(fact, moment)
            } else {
                follower.take(seen, moment)
            };
            found.map_err(|text| breach(t, text))?;
        }
        let ended = self.ended();
        if ended > visit.answered + SECOND && visit.is_json() {
            let all = chronicle.top_before(ended - SECOND);
            follower.has(all).map_err(|text| breach(ended, text))?;
            let found = replies.are_all(chronicle, all);
            found.map_err(|text| breach(ended, text))?;
        }
        Ok(follower.missing)
    }

    /// Whether it is a text of a backend that no history has taken.
    fn is_live(&self, seen: &Seen) -> bool {
        let (Seen::Placed(Placed { text, .. }) | Seen::Text(text)) = seen else {
            return false;
        };
        let word = self.history.ledger().word(text);
        word.is_some_and(|word| word.is_live && word.room == self.visit.room)
    }

    /// A client is refused its wish if and only if it may not have it.
    fn refused(&self) -> Result<(), String> {
        match self.visit.status() {
            Some(400) => Err("is told that its wish is none".to_owned()),
            Some(403) if !self.is_forbidden() => Err("may not read the history".to_owned()),
            Some(_) | None => Ok(()),
        }
    }

    fn is_forbidden(&self) -> bool {
        self.visit.last > 0 && self.journal.is_private
    }

    /// The time up to which the client has certainly been written to.
    fn ended(&self) -> u64 {
        let conn = self.visit.conn;
        if !conn.blocks.is_empty() {
            return 0;
        }
        let ends = [
            conn.shutdown,
            conn.failed,
            conn.dropped,
            conn.closed().map(|(t, _)| t),
            self.history.drained,
            self.history.entries.last().map(|entry| entry.t),
        ];
        let next = self.history.crashes().find(|t| *t >= conn.accepted);
        ends.into_iter().flatten().chain(next).min().unwrap_or(0)
    }

    /// Judges the first notice.
    fn follower(&self, chronicle: &Chronicle) -> Result<Follower, String> {
        let (visit, journal) = (self.visit, self.journal);
        let grace = self.history.grace;
        let low = chronicle.top_before(visit.asked);
        let high = chronicle.top_by(visit.answered + grace);
        let follower = |tops, after| Follower::new(visit.client, journal, tops, after);
        let kept = Kept {
            chronicle,
            journal,
            grace,
        };
        let first = visit.told().next().map(|(_, seen)| seen);
        if journal.recovery == Recovering::Off || !visit.is_json() {
            let (least, most) = (self.after(&kept, low).0, self.after(&kept, high).1);
            let untold = follower((low, high), (least.min(most), most));
            return Ok(untold.without_positions(visit.is_json()));
        }
        let first = match first {
            None | Some(Seen::Close(_)) => return Ok(follower((low, high), (low, high))),
            Some(Seen::Fact(fact)) => fact,
            Some(other) => return Err(format!("was told {other:?} before its position")),
        };
        let (Fact::Position(place) | Fact::Recovered { place, .. }) = first else {
            return Err(format!("was told {first:?} first"));
        };
        let top = place.offset;
        if place.epoch != chronicle.epoch || !(low..=high).contains(&top) {
            let epoch = &chronicle.epoch;
            return Err(format!(
                "was told {place:?}, and is at {epoch}, {low} to {high}"
            ));
        }
        let after = self.greeted(first, &kept, top)?;
        Ok(follower((top, top), after))
    }

    /// Judges what the client is told of its position; returns the offsets between which that lies
    /// after which its messages come.
    fn greeted(&self, fact: &Fact, kept: &Kept<'_>, top: u64) -> Result<(u64, u64), String> {
        let shown = self.visit.shown(self.journal);
        let shown = shown.filter(|_| self.journal.answers());
        match (shown, fact) {
            (None, Fact::Position(_)) => Ok(self.after(kept, top)),
            (Some(since), Fact::Recovered { why, .. }) => {
                let whys = self.whys(since, kept, top);
                if !whys.contains(&why.as_deref()) {
                    return Err(format!(
                        "was told {why:?} after {since:?} at {top}: {whys:?}"
                    ));
                }
                let after = if why.is_none() { since.offset } else { top };
                Ok((after, after))
            }
            _ => Err(format!("was told {fact:?} after {shown:?}")),
        }
    }

    /// The answers to a position of which one must be given; `None` is that the client recovers.
    fn whys(&self, since: &Place, kept: &Kept<'_>, top: u64) -> Vec<Option<&'static str>> {
        if !since.epoch.is_empty() && since.epoch != kept.chronicle.epoch {
            return vec![Some("epoch")];
        }
        if since.offset > top {
            return vec![Some("ahead")];
        }
        if since.offset == top {
            return vec![None];
        }
        let next = since.offset + 1;
        let whys = kept.whys(next, top, self.visit.answered).into_iter();
        let mut whys: Vec<_> = whys.map(Some).collect();
        if !kept.is_gone(next, top, self.visit.asked) {
            let is_many = top - since.offset > self.journal.recovery_max();
            whys.push(is_many.then_some("too_many"));
        }
        whys
    }

    /// The offsets between which that lies after which the messages of a client come that does not
    /// recover.
    fn after(&self, kept: &Kept<'_>, top: u64) -> (u64, u64) {
        if self.journal.recovery == Recovering::Newest {
            // The newest message is dropped for none.
            let may_be_old = top == 0 || kept.may_be_old(top, self.visit.answered);
            return (top.saturating_sub(1), top - u64::from(!may_be_old));
        }
        let first = (top + 1).saturating_sub(self.visit.last).max(1);
        let sure = kept.sure(top, self.visit.answered);
        (first - 1, sure.max(first) - 1)
    }
}

/// More than it takes to write what is there.
const SECOND: u64 = 1_000_000;
