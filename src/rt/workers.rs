//! The executors of the process, so that any thread can spawn a task on another thread.

use std::collections::BTreeMap;

use super::WorkerId;
use super::executor::Spawner;
use crate::sync::{Mutex, OnceLock};

/// The executor of each worker; there are few, and a look-up happens when a connection is placed.
static WORKERS: OnceLock<Mutex<BTreeMap<WorkerId, Spawner>>> = OnceLock::new();

fn workers() -> &'static Mutex<BTreeMap<WorkerId, Spawner>> {
    WORKERS.get_or_init(|| Mutex::new(BTreeMap::new()))
}

/// Registers an executor, so that other threads can spawn tasks on it.
pub(super) fn register(executor: &Spawner) {
    workers().lock().insert(executor.worker(), executor.clone());
}

/// Removes an executor that is being dropped.
pub(super) fn unregister(worker: WorkerId) {
    let removed = workers().lock().remove(&worker);
    drop(removed);
}

/// The executor of this worker, if it exists.
pub(super) fn find(worker: WorkerId) -> Option<Spawner> {
    workers().lock().get(&worker).cloned()
}
