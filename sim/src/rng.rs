//! Random numbers from a seed and a key, so that no draw depends on another key's draws.

use std::ops::RangeInclusive;

use crate::trace::Fnv;

/// A stream of random numbers (SplitMix64), fixed by its seed and its key.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of this name and number under this seed.
    pub fn keyed(seed: u64, name: &str, number: u64) -> Self {
        let mut fnv = Fnv::default();
        fnv.write(name.as_bytes());
        let mut rng = Self(seed);
        for part in [fnv.value(), number] {
            rng = Self(rng.random() ^ part);
        }
        rng
    }

    /// The next number, each bit as likely 0 as 1.
    pub fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, each about as likely; its span must be below 2^32.
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        assert!(first <= last, "an empty range");
        first + (self.random() >> 32) % (last - first + 1)
    }

    /// True in `part` of `whole` cases.
    pub fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.within(1..=whole) <= part
    }

    /// One of the choices, each as likely.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let last = choices.len() as u64 - 1;
        &choices[self.within(0..=last) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_name_and_number_alone() {
        let first = |seed, name, number| Rng::keyed(seed, name, number).random();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        let all = [
            first(1, "a", 0),
            first(2, "a", 0),
            first(1, "b", 0),
            first(1, "a", 1),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }

    #[test]
    fn a_range_is_reached_to_both_ends() {
        let mut rng = Rng::keyed(1, "range", 0);
        let drawn: Vec<_> = (0..200).map(|_| rng.within(3..=5)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&5));
    }
}
