//! Which polls of a thread count as of one time.

use std::cell::Cell;

use crate::sync::thread_local;

/// Polls of one moment at most.
pub(super) const POLLS: u32 = 8;

/// Where a thread is in its work.
#[derive(Clone, Copy)]
struct Place {
    /// The moment's number.
    number: u64,
    /// Polls that it has still room for.
    left: u32,
    /// Whether one of them runs.
    runs: bool,
}

impl Place {
    const START: Self = Self {
        number: 0,
        left: 0,
        runs: false,
    };
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::START) };
}

fn change(change: impl FnOnce(Place) -> Place) {
    PLACE.with(|place| place.set(change(place.get())));
}

/// A round begins, and with it a moment.
pub(super) fn round() {
    change(|place| Place { left: 0, ..place });
}

/// A poll begins.
pub(super) fn enter() {
    change(|place| match place.left.checked_sub(1) {
        Some(left) => Place {
            left,
            runs: true,
            ..place
        },
        None => Place {
            number: place.number + 1,
            left: POLLS - 1,
            runs: true,
        },
    });
}

/// The poll has ended.
pub(super) fn leave() {
    change(|place| Place {
        runs: false,
        ..place
    });
}

/// The number of the moment in which a task of a crew is polled on this thread, if one is.
pub(super) fn present() -> Option<u64> {
    let place = PLACE.with(Cell::get);
    place.runs.then_some(place.number)
}
