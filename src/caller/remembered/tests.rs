//! Idempotency keys against a list that remembers everything, over all short walks and many long
//! ones.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bus::ServiceName;

const TTL: Duration = Duration::from_secs(10);
const MOST: usize = 3;

fn room(key: &str) -> Room {
    let kind: ServiceName = "chat".parse().expect("a name");
    Room::new(&kind, key).expect("a key")
}

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

/// A step of a walk.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A publish in a room, by the number of its key.
    Publish(u8),
    /// A publish that is begun and not ended.
    Begin(u8),
    /// The oldest begun publish ends, with a result or without.
    End { is_done: bool },
    /// Seconds pass.
    Wait(u64),
}

/// The judge: every publish that has ended, the newest last, with its key, its end and its result.
#[derive(Default)]
struct Judge {
    ended: Vec<(u8, u64, u32)>,
    open: Vec<(u8, Named)>,
    now: u64,
    results: u32,
}

impl Judge {
    fn expected(&self, key: u8) -> Option<u32> {
        let last = self.ended.iter().rev().take(MOST);
        let mut known = last.filter(|(_, end, _)| end + TTL.as_secs() > self.now);
        known
            .find(|(own, _, _)| *own == key)
            .map(|(_, _, result)| *result)
    }

    fn step(&mut self, remembered: &mut Remembered<u32>, step: Step) {
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Publish(key) | Step::Begin(key) => {
                let is_open = self.open.iter().any(|(own, _)| *own == key);
                let key_text = (key % 2).to_string();
                let room = room(&(key / 2).to_string());
                let begun = remembered.begin(&room, &key_text, at(self.now));
                match (begun, self.expected(key)) {
                    (Begun::Known(result), Some(expected)) => assert_eq!(result, expected),
                    (Begun::UnderWay, None) => assert!(is_open, "{key}"),
                    (Begun::First(named), None) => {
                        assert!(!is_open, "{key}");
                        self.open.push((key, named));
                        if matches!(step, Step::Publish(_)) {
                            let last = self.open.len() - 1;
                            self.end(remembered, last, true);
                        }
                    }
                    (begun, expected) => panic!("{key}: {begun:?} for {expected:?}"),
                }
            }
            Step::End { .. } if self.open.is_empty() => {}
            Step::End { is_done } => self.end(remembered, 0, is_done),
        }
        assert!(remembered.len() <= MOST);
        assert!(remembered.by_key.len() <= remembered.len() + self.open.len());
    }

    fn end(&mut self, remembered: &mut Remembered<u32>, index: usize, is_done: bool) {
        let (key, named) = self.open.remove(index);
        if !is_done {
            return remembered.abandon(&named);
        }
        self.results += 1;
        remembered.finish(&named, self.results, at(self.now));
        self.ended.push((key, self.now, self.results));
    }
}

fn walk(steps: impl IntoIterator<Item = Step>) {
    let (mut judge, mut remembered) = (Judge::default(), Remembered::new(MOST, TTL));
    for step in steps {
        judge.step(&mut remembered, step);
    }
}

#[test]
fn every_walk_of_six_steps_publishes_once() {
    let steps = [
        Step::Publish(0),
        Step::Publish(1),
        Step::Begin(0),
        Step::Begin(2),
        Step::End { is_done: true },
        Step::End { is_done: false },
        Step::Wait(5),
    ];
    let count = steps.len().pow(6);
    for number in 0..count {
        let digit = |place: u32| steps[number / steps.len().pow(place) % steps.len()];
        walk((0..6).map(digit));
    }
}

proptest! {
    #[test]
    fn many_keys_over_a_long_time_publish_once(steps in vec(step(), 0..200)) {
        walk(steps);
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..8u8).prop_map(Step::Publish),
        2 => (0..8u8).prop_map(Step::Begin),
        2 => any::<bool>().prop_map(|is_done| Step::End { is_done }),
        2 => (0..12u64).prop_map(Step::Wait),
    ]
}

#[test]
fn a_thousand_keys_a_second_for_an_hour_stay_in_bounds_and_in_time() {
    let (most, ttl) = (100_000, Duration::from_secs(300));
    let mut remembered = Remembered::new(most, ttl);
    let room = room("1");
    for second in 0..3_600_u64 {
        for n in 0..1_000 {
            let number = second * 1_000 + n;
            let begun = remembered.begin(&room, &number.to_string(), at(second));
            let Begun::First(named) = begun else {
                panic!("{number}: {begun:?}");
            };
            remembered.finish(&named, number, at(second));
        }
        assert!(remembered.len() <= most);
        assert_eq!(remembered.by_key.len(), remembered.len());
        // The count allows a hundred seconds of these; what is inside is still known.
        let inside = (second.saturating_sub(99) * 1_000).to_string();
        let known = remembered.begin(&room, &inside, at(second));
        assert_eq!(known, Begun::Known(second.saturating_sub(99) * 1_000));
    }
    assert_eq!(remembered.begin(&room, "none", at(3_600 + 300)), {
        Begun::First(Named(Arc::new((room.clone(), "none".into()))))
    });
    assert!(remembered.is_empty(), "all time is over");
}
