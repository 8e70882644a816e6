//! The search for something smaller that still fails, whatever it is.

use std::cell::Cell;

/// Tries plans, up to so many.
pub(crate) struct Search<F> {
    runs: Cell<usize>,
    runs_max: usize,
    fails: F,
}

impl<F> Search<F> {
    pub(crate) fn new(runs_max: usize, fails: F) -> Self {
        Self {
            runs: Cell::new(0),
            runs_max,
            fails,
        }
    }

    /// How many plans were tried.
    pub(crate) fn runs(&self) -> usize {
        self.runs.get()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.runs.get() >= self.runs_max
    }

    /// Whether the plan fails; none does once enough were tried.
    pub(crate) fn fails<P>(&self, plan: &P) -> bool
    where
        F: Fn(&P) -> bool,
    {
        if self.is_over() {
            return false;
        }
        self.runs.set(self.runs.get() + 1);
        (self.fails)(plan)
    }

    /// Takes the candidate for the best plan if it is another one and fails.
    pub(crate) fn take<P: PartialEq>(&self, best: &mut P, candidate: P) -> bool
    where
        F: Fn(&P) -> bool,
    {
        let is_better = candidate != *best && self.fails(&candidate);
        if is_better {
            *best = candidate;
        }
        is_better
    }
}

/// A part of `all` that fails and of which no single item can be left out (delta debugging).
pub(crate) fn minimize<T: Clone>(all: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut best = all.to_vec();
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 && !best.is_empty() {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < best.len() {
            let end = (start + chunk).min(best.len());
            let rest = [&best[..start], &best[end..]].concat();
            if fails(&rest) {
                best = rest;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        // At the end, single items until all of them are needed.
        if chunk > 1 || !has_shrunk {
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }
    best
}
