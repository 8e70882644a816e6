//! The only import of locks, shared pointers and atomics; loom's in the loom tests of this crate.
//!
//! Under a lock of this crate no foreign code runs but the clone of a waker: wakers are taken out
//! under the lock, and woken or dropped after it ([`Waiters`]). A panic therefore unlocks a whole
//! value.

#![cfg_attr(
    not(all(test, feature = "loom")),
    expect(
        clippy::disallowed_types,
        reason = "this file is where the locks come from"
    )
)]

#[cfg(all(test, feature = "loom"))]
mod imp {
    #[cfg(feature = "server")]
    pub(crate) use loom::sync::atomic::AtomicBool;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Arc, Mutex as RawMutex, MutexGuard};

    /// Accepts the `const` of the standard macro; loom makes the value at its first use.
    macro_rules! local {
        ($($(#[$meta:meta])* static $name:ident: $of:ty = const { $made:expr };)+) => {
            loom::thread_local! { $($(#[$meta])* static $name: $of = $made;)+ }
        };
    }
    pub(crate) use local as thread_local;

    pub(super) fn lock<T>(mutex: &RawMutex<T>) -> MutexGuard<'_, T> {
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(not(all(test, feature = "loom")))]
mod imp {
    #[cfg(feature = "server")]
    pub(crate) use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    // A lock of one byte, which is never poisoned.
    pub(crate) use parking_lot::{Mutex as RawMutex, MutexGuard};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::thread_local;

    #[inline]
    pub(super) fn lock<T>(mutex: &RawMutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }
}

#[cfg(feature = "server")]
mod cancel;
mod waiters;

#[cfg(feature = "server")]
pub(crate) use self::cancel::{Cancelled, Canceller};
pub(crate) use self::waiters::{WaiterSlot, Waiters, Wakers};

/// A sum on which no decision depends, so that loom need not see it.
pub(crate) use std::sync::atomic::AtomicU64 as Sum;

/// A value that the first caller makes; a loom model sees a single step.
pub(crate) use std::sync::OnceLock;

/// Only the server uses flags.
#[cfg(feature = "server")]
pub(crate) use imp::AtomicBool;
pub(crate) use imp::{Arc, AtomicU64, MutexGuard, Ordering, thread_local};

/// A lock that is never held across an await or a wake, and is not poisoned by a panic.
#[derive(Debug)]
pub(crate) struct Mutex<T>(imp::RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::RawMutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        imp::lock(&self.0)
    }
}

/// The number of this thread, in the order in which threads ask; invisible to loom models.
pub(crate) fn thread_number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// Runs a loom model: every interleaving with at most `preemptions` preemptions.
///
/// Prints the number of interleavings; a model with only a few tests nothing.
#[cfg(all(test, feature = "loom"))]
pub(crate) fn model(preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};

    let executions = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{executions} interleavings");
    assert!(executions > 1, "the model has no interleavings");
}
