//! The process's `getrandom` and `clock_gettime`: an armed thread gets its run's, others the real.
//!
//! Whatever draws entropy or reads a clock below the seams of the product (the keys of `HashMap`,
//! WebSocket masks, the `Date` of a response) ends at these two functions of libc. The linker takes
//! the definitions here instead, so the dependencies need neither patches nor flags. They call into
//! nothing that could call them: no allocation, no tokio.
#![expect(
    unsafe_code,
    reason = "the one file that defines symbols of libc; everything else denies unsafe code"
)]

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime};

use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::rng::Rng;

/// What an armed thread has instead of the system.
#[derive(Clone, Debug)]
struct Armed {
    rng: Rng,
    draws: u64,
    monotonic: Duration,
    wall: Duration,
}

thread_local! {
    // Nothing to drop, so the first use of a thread registers nothing with the system.
    static ARMED: Cell<Option<Armed>> = const { Cell::new(None) };
}

/// Keeps this thread armed; dropping it gives the thread the system's entropy and clocks back.
#[derive(Debug)]
#[must_use = "the thread is disarmed as soon as this is dropped"]
pub struct Guard(());

/// Arms the calling thread: its entropy comes from `seed`, its clocks stand until [`set_clocks`].
///
/// Only a fresh thread repeats itself: the keys of its hash maps are drawn once and then counted
/// up.
pub fn arm(seed: u64, wall: SystemTime) -> Guard {
    let armed = Armed {
        rng: Rng::keyed(seed, "entropy", 0),
        draws: 0,
        // Not zero: `Instant`s before the first one are taken, and must exist.
        monotonic: MONOTONIC_START,
        wall: since_epoch(wall),
    };
    ARMED.set(Some(armed));
    Guard(())
}

/// What the monotonic clock of an armed thread shows at first.
const MONOTONIC_START: Duration = Duration::from_secs(1_000_000);

impl Drop for Guard {
    fn drop(&mut self) {
        ARMED.set(None);
    }
}

/// Sets the clocks of the calling thread: the time since it was armed, and the wall clock.
///
/// Without effect on a thread that is not armed.
pub fn set_clocks(elapsed: Duration, wall: SystemTime) {
    visit(|armed| {
        armed.monotonic = MONOTONIC_START + elapsed;
        armed.wall = since_epoch(wall);
    });
}

/// Moves both clocks of the calling thread on, to this time since it was armed.
///
/// Without effect on a thread that is not armed.
pub fn pass(elapsed: Duration) {
    visit(|armed| {
        let passed = (MONOTONIC_START + elapsed).saturating_sub(armed.monotonic);
        armed.monotonic += passed;
        armed.wall += passed;
    });
}

/// How often the calling thread has drawn entropy since it was armed.
pub fn draws() -> u64 {
    visit(|armed| armed.draws).unwrap_or(0)
}

fn since_epoch(wall: SystemTime) -> Duration {
    wall.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Runs `look` on what the thread is armed with; `None` if it is not, or is at its end.
fn visit<T>(look: impl FnOnce(&mut Armed) -> T) -> Option<T> {
    let taken = ARMED.try_with(Cell::take).ok().flatten();
    let mut armed = taken?;
    let seen = look(&mut armed);
    ARMED.set(Some(armed));
    Some(seen)
}

/// The entropy of the process.
///
/// # Safety
///
/// As libc's: `buffer` is valid for writes of `length` bytes.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let filled = visit(|armed| {
        armed.draws += 1;
        for index in 0..length {
            let byte = armed.rng.random().to_le_bytes()[0];
            // SAFETY: the caller gives `length` writable bytes from `buffer` on, and `index` is
            // below that. The write does not read, so the bytes may be uninitialized.
            unsafe { buffer.cast::<u8>().add(index).write(byte) };
        }
        length.cast_signed()
    });
    filled.unwrap_or_else(|| {
        // SAFETY: the arguments of the system call are those of this function, whose caller has
        // promised what the system call requires of them.
        let taken = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        taken as libc::ssize_t
    })
}

/// The clocks of the process.
///
/// # Safety
///
/// As libc's: `time` is valid for the write of one `timespec`.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let shown = visit(|armed| match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(armed.wall),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME => Some(armed.monotonic),
        // The CPU time of threads and processes is no part of a run.
        _ => None,
    });
    if let Some(shown) = shown.flatten() {
        let shown = libc::timespec {
            tv_sec: shown.as_secs().cast_signed() as libc::time_t,
            tv_nsec: shown.subsec_nanos().cast_signed() as libc::c_long,
        };
        // SAFETY: the caller gives a place for one `timespec`; the write does not read it.
        unsafe { time.write(shown) };
        return 0;
    }
    // SAFETY: the arguments of the system call are those of this function, whose caller has
    // promised what the system call requires of them.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    result as libc::c_int
}

/// Keeps the linker from leaving the definitions out of a binary that never names them.
#[cfg(target_os = "linux")]
#[used]
static KEEP: (
    unsafe extern "C" fn(*mut libc::c_void, libc::size_t, libc::c_uint) -> libc::ssize_t,
    unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> libc::c_int,
) = (getrandom, clock_gettime);

/// Why runs cannot be repeated on this platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "runs cannot be repeated on this platform ({}): {}; the simulator replaces libc's \
             getrandom and clock_gettime at link time, which is known to work on Linux only",
            std::env::consts::OS,
            self.0
        )
    }
}

impl std::error::Error for Unsupported {}

/// Checks, once in a process, that armed threads get their run's entropy and clocks.
///
/// # Errors
///
/// When they do not: then no run could be repeated, and none should be started.
pub fn canary() -> Result<(), Unsupported> {
    static SEEN: OnceLock<Result<(), Unsupported>> = OnceLock::new();
    SEEN.get_or_init(sing).clone()
}

/// What a thread sees of entropy and clocks.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Through the standard library.
    hash: u64,
    /// Through the crate that WebSocket keys and masks are drawn with.
    key: String,
    wall: SystemTime,
    draws: u64,
}

fn sing() -> Result<(), Unsupported> {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(123_456_789);
    let first = look(1, wall)?;
    let same = look(1, wall)?;
    let other = look(2, wall)?;
    let fail = |why: &str| Err(Unsupported(why.to_owned()));
    if first.draws == 0 {
        return fail("nothing was drawn through getrandom");
    }
    if first.hash != same.hash || first.hash == other.hash {
        return fail("the hash keys of the standard library do not follow the seed");
    }
    if first.key != same.key || first.key == other.key {
        return fail("the random numbers of dependencies do not follow the seed");
    }
    if first.wall != wall {
        return fail("the wall clock is not the run's");
    }
    Ok(())
}

fn look(seed: u64, wall: SystemTime) -> Result<Seen, Unsupported> {
    let thread = thread::Builder::new().name("canary".to_owned());
    let looking = thread.spawn(move || {
        let _armed = arm(seed, wall);
        #[expect(
            clippy::disallowed_methods,
            reason = "what the real call shows is the question"
        )]
        let wall = SystemTime::now();
        Seen {
            hash: RandomState::new().hash_one(0_u8),
            key: generate_key(),
            wall,
            draws: draws(),
        }
    });
    let seen = looking.map_err(|error| Unsupported(format!("no thread: {error}")))?;
    let panicked = |_| Unsupported("the canary panicked".to_owned());
    seen.join().map_err(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_sings_here() {
        assert_eq!(canary(), Ok(()));
    }

    #[test]
    fn a_thread_that_is_not_armed_keeps_the_system() {
        #[expect(clippy::disallowed_methods, reason = "the real clock is the question")]
        let now = SystemTime::now();
        assert!(now > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_ne!(generate_key(), generate_key());
        assert_eq!(draws(), 0);
    }

    #[test]
    fn a_disarmed_thread_has_the_system_back() {
        let wall = SystemTime::UNIX_EPOCH;
        drop(arm(1, wall));
        #[expect(clippy::disallowed_methods, reason = "the real clock is the question")]
        let now = SystemTime::now();
        assert_ne!(now, wall);
    }
}
