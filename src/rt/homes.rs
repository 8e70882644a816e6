//! Which crews there are, so that any thread can spawn a task at the home of another.

use std::collections::BTreeMap;

use super::Home;
use super::crew::Spawner;
use crate::sync::{Mutex, OnceLock};

/// The crew of each home; they are few, and looked up when a connection is placed.
static HOMES: OnceLock<Mutex<BTreeMap<Home, Spawner>>> = OnceLock::new();

fn homes() -> &'static Mutex<BTreeMap<Home, Spawner>> {
    HOMES.get_or_init(|| Mutex::new(BTreeMap::new()))
}

/// From now on tasks can be spawned there.
pub(super) fn open(crew: &Spawner) {
    homes().lock().insert(crew.home(), crew.clone());
}

/// Nothing runs there any more.
pub(super) fn close(home: Home) {
    let closed = homes().lock().remove(&home);
    drop(closed);
}

/// The crew of this home, if there is one.
pub(super) fn find(home: Home) -> Option<Spawner> {
    homes().lock().get(&home).cloned()
}
