//! The notices of joins and leaves in one room, by their rate and their delay: pure.
//!
//! The first joins and leaves of a second are told at once. Further ones wait for the end of that
//! second and are told together, so that a mass of clients does not cost each of them a notice for
//! every other one. A client that comes and goes in the meantime is not told of at all.
//!
//! A leave may be held back for a while. A client of the same subject that joins meanwhile takes
//! the place of the client that has left: the leave is never told, and the notice of the join says
//! which client it replaces. A page that is reloaded so does not look like a user who goes and
//! comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::roll::{Shown, fitting};
use crate::bus::ClientId;
use crate::rt::Instant;

/// The time in which joins and leaves are told together once too many were told at once.
const SECOND: Duration = Duration::from_secs(1);

/// The bounds and the delay of notices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The joins and leaves of a second that are told at once.
    pub(super) at_once: usize,
    /// The time for which a leave is held back.
    pub(super) leave_delay: Duration,
    /// The most joins, and the most leaves, that are told together.
    pub(super) together: usize,
    /// The most leaves that are held back.
    pub(super) held: usize,
}

/// A join that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) shown: Shown,
    /// The client of the same subject whose leave is not told, as this one takes its place.
    pub(super) replaces: Option<ClientId>,
    /// Whether the join was told before, and the client shows other facts now.
    is_update: bool,
}

impl Joined {
    /// The first join of a client.
    pub(super) fn of(shown: Shown, replaces: Option<ClientId>) -> Self {
        Self {
            shown,
            replaces,
            is_update: false,
        }
    }
}

/// Joins and leaves that are told together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) joined: BTreeMap<ClientId, Joined>,
    pub(super) left: BTreeMap<ClientId, Shown>,
}

impl Told {
    /// The number of joins and leaves.
    pub(super) fn len(&self) -> usize {
        self.joined.len() + self.left.len()
    }

    /// Whether all of them fit into one notice of joins and one of leaves.
    fn fits(&self, pace: Pace) -> bool {
        let joined = self.joined.values().map(|joined| &joined.shown);
        let joined = fitting(joined.take(pace.together)) == self.joined.len();
        joined && fitting(self.left.values().take(pace.together)) == self.left.len()
    }
}

/// A leave that is held back.
#[derive(Clone, Debug)]
struct Held {
    until: Instant,
    id: ClientId,
    shown: Shown,
}

/// The joins and leaves of one room that are still to be told.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    pace: Pace,
    /// The end of the second in which something was told last.
    second: Instant,
    /// The joins and leaves that were told at once in that second.
    told: usize,
    due: Told,
    /// The leaves that are held back, by sequence number; each for as long as all others.
    held: BTreeMap<u64, Held>,
    /// The sequence numbers of held leaves by subject.
    by_subject: BTreeSet<(Arc<str>, u64)>,
    next: u64,
}

impl Notices {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            second: Instant::ZERO,
            told: 0,
            due: Told::default(),
            held: BTreeMap::new(),
            by_subject: BTreeSet::new(),
            next: 0,
        }
    }

    /// Takes in a join; returns the joins and leaves that are to be told now.
    pub(super) fn joined(&mut self, now: Instant, id: ClientId, shown: Shown) -> Option<Told> {
        let replaces = self.take_held(&shown);
        self.due.joined.insert(id, Joined::of(shown, replaces));
        self.at_once(now)
    }

    /// Takes in new facts about a client, whose subject stays; returns the joins and leaves that
    /// are to be told now.
    pub(super) fn changed(&mut self, now: Instant, id: ClientId, shown: Shown) -> Option<Told> {
        let is_update = !self.due.joined.contains_key(&id);
        let joined = self.due.joined.entry(id).or_insert_with(|| Joined {
            shown: Shown::default(),
            replaces: None,
            is_update,
        });
        joined.shown = shown;
        self.at_once(now)
    }

    /// Takes in a leave; returns the joins and leaves that are to be told now.
    pub(super) fn left(&mut self, now: Instant, id: ClientId, shown: Shown) -> Option<Told> {
        match self.due.joined.remove(&id) {
            // The join is not told, nor is the leave. If the client replaced another one, that one
            // is the client that is gone.
            Some(Joined {
                replaces: Some(replaced),
                is_update: false,
                ..
            }) => self.hold(now, replaced, shown),
            Some(Joined {
                replaces: None,
                is_update: false,
                ..
            }) => {}
            Some(Joined {
                is_update: true, ..
            })
            | None => self.hold(now, id, shown),
        }
        self.at_once(now)
    }

    fn hold(&mut self, now: Instant, id: ClientId, shown: Shown) {
        if self.pace.leave_delay.is_zero() {
            self.due.left.insert(id, shown);
            return;
        }
        if let Some(subject) = &shown.subject {
            self.by_subject.insert((Arc::clone(subject), self.next));
        }
        let until = now + self.pace.leave_delay;
        self.held.insert(self.next, Held { until, id, shown });
        self.next += 1;
        if self.held.len() > self.pace.held {
            self.release_first();
        }
    }

    /// Takes the oldest held leave of the same subject.
    fn take_held(&mut self, shown: &Shown) -> Option<ClientId> {
        let subject = shown.subject.as_ref()?;
        let from = (Arc::clone(subject), 0)..=(Arc::clone(subject), u64::MAX);
        let oldest = self.by_subject.range(from).next()?.clone();
        self.by_subject.remove(&oldest);
        let held = self.held.remove(&oldest.1)?;
        Some(held.id)
    }

    /// Moves the held leaves whose time has come to those that are due.
    fn release(&mut self, now: Instant) {
        while let Some((_, first)) = self.held.first_key_value()
            && first.until <= now
        {
            self.release_first();
        }
    }

    /// Moves the leave that is held longest to those that are due.
    fn release_first(&mut self) {
        if let Some((sequence, held)) = self.held.pop_first() {
            if let Some(subject) = &held.shown.subject {
                self.by_subject.remove(&(Arc::clone(subject), sequence));
            }
            self.due.left.insert(held.id, held.shown);
        }
    }

    /// The joins and leaves that may be told at once, all or none.
    fn at_once(&mut self, now: Instant) -> Option<Told> {
        self.release(now);
        if now >= self.second {
            self.told = 0;
        }
        let waiting = self.due.len();
        let is_too_much = self.told + waiting > self.pace.at_once || !self.due.fits(self.pace);
        if waiting == 0 || is_too_much {
            return None;
        }
        if self.told == 0 {
            self.second = now + SECOND;
        }
        self.told += waiting;
        Some(std::mem::take(&mut self.due))
    }

    /// The joins and leaves that are told together now that a deadline has come, at most
    /// [`Pace::together`] of each.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Told> {
        let few = self.at_once(now);
        if few.is_some() || now < self.second || self.due.len() == 0 {
            return few;
        }
        self.second = now + SECOND;
        // The rest of the second belongs to those that wait.
        self.told = self.pace.at_once;
        let told = Told {
            joined: first(&mut self.due.joined, self.pace.together, |joined| {
                &joined.shown
            }),
            left: first(&mut self.due.left, self.pace.together, |shown| shown),
        };
        Some(told)
    }

    /// The time at which [`on_time`](Self::on_time) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let together = (self.due.len() > 0).then_some(self.second);
        let held = self.held.first_key_value().map(|(_, held)| held.until);
        match (together, held) {
            (Some(together), Some(held)) => Some(together.min(held)),
            (either, or) => either.or(or),
        }
    }

    /// Forgets all joins and leaves: there is no client to be told.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.pace);
    }
}

/// Takes the first `most` entries of a map, and no more than fit into a page.
fn first<V>(
    map: &mut BTreeMap<ClientId, V>,
    most: usize,
    shown: fn(&V) -> &Shown,
) -> BTreeMap<ClientId, V> {
    let fitting = fitting(map.values().take(most).map(shown));
    let Some(next) = map.keys().nth(fitting).copied() else {
        return std::mem::take(map);
    };
    let rest = map.split_off(&next);
    std::mem::replace(map, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        at_once: 2,
        leave_delay: Duration::ZERO,
        together: 3,
        held: 2,
    };

    /// A step in the life of a room; a client leaves by its place among those that are there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        /// A client of this subject joins.
        Join(&'static str),
        Leave(usize),
        /// A client that is there shows other facts.
        Change(usize),
        /// Milliseconds pass.
        Wait(u64),
    }

    const STEPS: [Step; 8] = [
        Step::Join("ann"),
        Step::Join("bob"),
        Step::Join("eve"),
        Step::Leave(0),
        Step::Leave(1),
        Step::Change(0),
        Step::Wait(300),
        Step::Wait(1_500),
    ];

    /// A room, and a client that follows its joins and leaves.
    #[derive(Clone)]
    struct World {
        now: Instant,
        notices: Notices,
        next: u64,
        there: Vec<(ClientId, Shown)>,
        /// The clients that are there as far as the follower was told.
        seen: BTreeMap<ClientId, Shown>,
        /// When the follower was told of anything.
        told: Vec<Instant>,
    }

    fn shown(subject: &str) -> Shown {
        Shown {
            subject: Some(subject.into()),
            info: None,
        }
    }

    impl World {
        fn new(pace: Pace) -> Self {
            Self {
                now: Instant::ZERO,
                notices: Notices::new(pace),
                next: 1,
                there: Vec::new(),
                seen: BTreeMap::new(),
                told: Vec::new(),
            }
        }

        fn apply(&mut self, step: Step) {
            match step {
                Step::Join(subject) => {
                    let id = ClientId::new(self.next);
                    self.next += 1;
                    self.there.push((id, shown(subject)));
                    let told = self.notices.joined(self.now, id, shown(subject));
                    self.hear(told);
                }
                Step::Leave(place) if place < self.there.len() => {
                    let (id, shown) = self.there.remove(place);
                    let told = self.notices.left(self.now, id, shown);
                    self.hear(told);
                }
                Step::Change(place) if place < self.there.len() => {
                    let (id, shown) = &mut self.there[place];
                    shown.info = Some(self.next.to_string().into());
                    self.next += 1;
                    let told = self.notices.changed(self.now, *id, shown.clone());
                    self.hear(told);
                }
                Step::Change(_) | Step::Leave(_) => {}
                Step::Wait(millis) => self.wait(self.now + Duration::from_millis(millis)),
            }
        }

        fn wait(&mut self, until: Instant) {
            while let Some(at) = self.notices.deadline().filter(|at| *at <= until) {
                let before = (at, self.notices.deadline());
                self.now = self.now.max(at);
                let told = self.notices.on_time(self.now);
                self.hear(told);
                let after = (at, self.notices.deadline());
                assert_ne!(before, after, "a deadline that stays would never end");
            }
            self.now = until;
        }

        /// Takes in a notice as a client does, which trusts it.
        fn hear(&mut self, told: Option<Told>) {
            let Some(told) = told else {
                return;
            };
            assert!(told.len() > 0, "an empty notice");
            self.told.push(self.now);
            let together = self.notices.pace.together;
            assert!(told.joined.len() <= together && told.left.len() <= together);
            for (id, joined) in told.joined {
                if let Some(replaced) = joined.replaces {
                    let gone = self.seen.remove(&replaced).expect("it was told of");
                    assert_eq!(gone.subject, joined.shown.subject);
                }
                let before = self.seen.insert(id, joined.shown);
                assert_eq!(before.is_some(), joined.is_update, "{id} is told twice");
            }
            for (id, _) in told.left {
                assert!(!self.there.iter().any(|(there, _)| *there == id));
                assert!(self.seen.remove(&id).is_some(), "{id} was not told of");
            }
        }

        /// Lets everything be told, and compares it with the clients that are there.
        fn settle(&mut self) {
            self.wait(self.now + Duration::from_secs(100));
            assert_eq!(self.notices.deadline(), None);
            assert!(self.notices.by_subject.is_empty() && self.notices.held.is_empty());
            let there: BTreeMap<_, _> = self.there.iter().cloned().collect();
            assert_eq!(self.seen, there);
            let at_once = self.notices.pace.at_once;
            for first in &self.told {
                let second = *first..*first + SECOND;
                let told = self.told.iter().filter(|at| second.contains(at));
                // Those told at once, and those together at the end of the second before.
                assert!(told.count() <= 2 * at_once + 1, "{:?}", self.told);
            }
        }
    }

    /// Every sequence of so many steps.
    fn walk(pace: Pace, steps: usize) {
        let mut worlds = vec![(World::new(pace), Vec::new())];
        while let Some((world, walked)) = worlds.pop() {
            world.clone().settle();
            if walked.len() == steps {
                continue;
            }
            for step in STEPS {
                let (mut next, mut walked) = (world.clone(), walked.clone());
                walked.push(step);
                next.apply(step);
                worlds.push((next, walked));
            }
        }
    }

    #[test]
    fn a_client_that_hears_every_notice_knows_who_is_there() {
        walk(PACE, 6);
    }

    #[test]
    fn a_client_knows_who_is_there_also_where_leaves_are_held_back() {
        for leave_delay in [Duration::from_millis(400), Duration::from_secs(3)] {
            walk(
                Pace {
                    leave_delay,
                    ..PACE
                },
                6,
            );
        }
    }

    fn notice(joined: &[(u64, &str, Option<u64>)], left: &[u64]) -> Option<Told> {
        let joined = joined.iter().map(|(id, subject, replaces)| {
            let replaces = replaces.map(ClientId::new);
            (ClientId::new(*id), Joined::of(shown(subject), replaces))
        });
        Some(Told {
            joined: joined.collect(),
            left: left
                .iter()
                .map(|id| (ClientId::new(*id), shown("ann")))
                .collect(),
        })
    }

    #[test]
    fn the_first_of_a_second_are_told_at_once_and_the_others_together() {
        let mut notices = Notices::new(PACE);
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut join = |millis, id| notices.joined(at(millis), ClientId::new(id), shown("ann"));
        assert_eq!(join(100, 1), notice(&[(1, "ann", None)], &[]));
        assert_eq!(join(200, 2), notice(&[(2, "ann", None)], &[]));
        for id in 3..=6 {
            assert_eq!(join(300, id), None);
        }
        assert_eq!(notices.left(at(400), ClientId::new(6), shown("ann")), None);
        assert_eq!(notices.deadline(), Some(at(1_100)));
        assert_eq!(notices.on_time(at(1_099)), None);
        let all = [(3, "ann", None), (4, "ann", None), (5, "ann", None)];
        assert_eq!(notices.on_time(at(1_100)), notice(&all, &[]));
        assert_eq!(notices.deadline(), None);
        // The second of a notice of many has no other one.
        let joined = notices.joined(at(2_000), ClientId::new(7), shown("ann"));
        assert_eq!(joined, None);
        assert_eq!(notices.deadline(), Some(at(2_100)));
    }

    #[test]
    fn a_subject_that_comes_back_in_time_takes_the_place_of_the_client_that_left() {
        let leave_delay = Duration::from_secs(3);
        let mut notices = Notices::new(Pace {
            leave_delay,
            ..PACE
        });
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let joined = notices.joined(at(0), ClientId::new(1), shown("ann"));
        assert_eq!(joined, notice(&[(1, "ann", None)], &[]));
        assert_eq!(
            notices.left(at(1_000), ClientId::new(1), shown("ann")),
            None
        );
        assert_eq!(notices.deadline(), Some(at(4_000)));
        let joined = notices.joined(at(3_999), ClientId::new(2), shown("ann"));
        assert_eq!(joined, notice(&[(2, "ann", Some(1))], &[]));
        assert_eq!(notices.deadline(), None);
        assert_eq!(
            notices.left(at(5_000), ClientId::new(2), shown("ann")),
            None
        );
        assert_eq!(notices.on_time(at(8_000)), notice(&[], &[2]));
    }

    #[test]
    fn the_leave_that_is_held_longest_is_told_where_too_many_are_held() {
        let mut notices = Notices::new(Pace {
            at_once: 100,
            leave_delay: Duration::from_secs(3),
            together: 100,
            held: 2,
        });
        for id in 1..=3 {
            let id = ClientId::new(id);
            notices.joined(Instant::ZERO, id, shown("ann"));
            let told = notices.left(Instant::ZERO, id, shown("ann"));
            // Each join takes the place of the leave before.
            assert_eq!((told, notices.held.len()), (None, 1));
        }
        let mut leave = |id| notices.left(Instant::ZERO, ClientId::new(id), shown("bob"));
        assert_eq!(leave(4), None);
        assert_eq!(leave(5), notice(&[], &[3]));
        assert_eq!(notices.by_subject.len(), 2);
    }

    #[test]
    fn a_mass_of_joins_is_told_by_and_by() {
        let mut world = World::new(PACE);
        for _ in 0..20 {
            world.apply(Step::Join("ann"));
        }
        world.wait(world.now + Duration::from_secs(3));
        assert_eq!(world.seen.len(), 2 + 3 * 3);
        world.settle();
    }

    #[test]
    fn a_notice_is_bounded_in_bytes_and_has_one_client_at_least() {
        let mut notices = Notices::new(Pace {
            at_once: 0,
            together: 100,
            ..PACE
        });
        let large = Shown {
            subject: None,
            info: Some("x".repeat(300_000).into()),
        };
        for id in 1..=3 {
            let told = notices.joined(Instant::ZERO, ClientId::new(id), large.clone());
            assert_eq!(told, None);
        }
        for second in 1..=3 {
            let now = Instant::ZERO + SECOND * second;
            let told = notices.on_time(now).expect("one is due");
            assert_eq!(told.joined.len(), 1);
        }
        assert_eq!(notices.deadline(), None);
    }
}
