//! What must be true of the core while it runs, exactly, one rule to a file.
//!
//! These rules see more than a trace: every pipe, every instance and the clock. The checkers of
//! traces judge the run besides.

mod admission;
mod answered;
mod cause;
mod company;
mod deadlines;
mod end;
mod journal;
mod lifecycle;
mod restart;
mod rooms;
mod served;

pub(crate) use self::admission::admission;
pub(crate) use self::answered::answered;
pub(crate) use self::cause::cause;
pub(crate) use self::end::{at_end, outline};
pub(crate) use self::journal::at_end as journal_at_end;
pub(crate) use self::lifecycle::Lives;
pub(crate) use self::restart::restart;
pub(crate) use self::rooms::{Asked, admission_to_room, key};

use super::world::World;

/// What is wrong, if anything is.
pub(crate) type Found = Result<(), String>;

/// What must be true whenever no task is ready.
pub(crate) fn at_rest(world: &mut World) -> [(&'static str, Found); 7] {
    [
        ("served", served::served(world)),
        ("deadlines", deadlines::deadlines(world)),
        ("lifecycle", lifecycle::at_rest(world)),
        ("rooms", rooms::at_rest(world)),
        ("journal", journal::at_rest(world)),
        ("company", company::at_rest(world)),
        ("drain", end::drain(world)),
    ]
}
