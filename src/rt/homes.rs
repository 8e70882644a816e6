//! The crews of the process, so that any thread can spawn a task on another thread.

use std::collections::BTreeMap;

use super::Home;
use super::crew::Spawner;
use crate::sync::{Mutex, OnceLock};

/// The crew of each home; there are few, and a look-up happens when a connection is placed.
static HOMES: OnceLock<Mutex<BTreeMap<Home, Spawner>>> = OnceLock::new();

fn homes() -> &'static Mutex<BTreeMap<Home, Spawner>> {
    HOMES.get_or_init(|| Mutex::new(BTreeMap::new()))
}

/// Registers a crew, so that other threads can spawn tasks on it.
pub(super) fn open(crew: &Spawner) {
    homes().lock().insert(crew.home(), crew.clone());
}

/// Removes a crew that is being dropped.
pub(super) fn close(home: Home) {
    let closed = homes().lock().remove(&home);
    drop(closed);
}

/// The crew of this home, if it exists.
pub(super) fn find(home: Home) -> Option<Spawner> {
    homes().lock().get(&home).cloned()
}
