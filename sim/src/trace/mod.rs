//! What happened in a run: events in order, as data, with one hash over all of them.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use serde::Serialize;

mod bytes;
mod diff;
mod event;
mod fnv;
mod log;
mod room;

pub use self::bytes::Bytes;
pub use self::diff::{Difference, diff, diff_lines};
pub use self::event::{Ending, Event, Finish, Held, Notice, Operation};
pub use self::fnv::{Digest, Fnv};
pub(crate) use self::log::LogTap;
pub use self::room::{Reply, Seen, To};
use crate::rt::wall_at;
use crate::shared::Shared;

/// One event with its place in the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Virtual time in microseconds, on the clock of the host where it happened.
    ///
    /// Hosts are run in turn for one tick each, so that times of two hosts may be out of order by
    /// up to a tick; `n` is the order.
    pub t: u64,
    /// Its number in the run.
    pub n: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// All events of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    entries: Vec<Entry>,
}

impl Trace {
    /// A trace of these events, numbered anew.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut trace = Self::default();
        for entry in entries {
            trace.push(entry.t, entry.event);
        }
        trace
    }

    /// The events in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The hash of all lines.
    pub fn hash(&self) -> Digest {
        let mut fnv = Fnv::default();
        for line in self.lines() {
            fnv.write(line.as_bytes());
            fnv.write(b"\n");
        }
        Digest(fnv.value())
    }

    /// The events as lines of JSON, in order, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(line)
    }

    /// Writes the lines.
    ///
    /// # Errors
    ///
    /// When `to` does not take them.
    pub fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        self.lines().try_for_each(|line| writeln!(to, "{line}"))
    }

    fn push(&mut self, t: u64, event: Event) {
        let n = self.entries.len() as u64;
        self.entries.push(Entry { t, n, event });
    }
}

fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_else(|error| {
        let mut line = String::new();
        // Writing to a string succeeds, and a trace with a bad line is better than none.
        let _ = write!(line, "{{\"n\":{},\"unwritable\":\"{error}\"}}", entry.n);
        line
    })
}

/// Where the parts of a run record what happens; clones record into the same trace.
#[derive(Clone, Debug)]
pub struct Recorder(Shared<Book>);

#[derive(Debug)]
struct Book {
    trace: Trace,
    host_clock: HostClock,
    /// The time outside of all hosts.
    now: Duration,
    /// What the wall clock was set by, in milliseconds.
    wall_ms: i64,
    state: State,
}

/// The virtual time of the host that is running, if one is.
pub type HostClock = fn() -> Option<Duration>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// What happens is that a program is taken apart, which nobody sees.
    Muted,
    Open,
}

impl Recorder {
    /// An empty trace, stamped with the time of the host that is running.
    pub fn new(host_clock: HostClock) -> Self {
        Self(Shared::new(Book {
            trace: Trace::default(),
            host_clock,
            now: Duration::ZERO,
            wall_ms: 0,
            state: State::Open,
        }))
    }

    /// Appends an event.
    pub fn record(&self, event: Event) {
        self.0.with(|book| {
            if book.state == State::Open {
                let now = (book.host_clock)().unwrap_or(book.now);
                book.trace.push(micros(now), event);
            }
        });
    }

    /// The virtual time: of the host that is running, else of the run.
    pub fn now(&self) -> Duration {
        self.0.with(|book| (book.host_clock)().unwrap_or(book.now))
    }

    /// The wall clock of the server.
    pub fn wall(&self) -> SystemTime {
        let (now, by) = self.0.with(|book| {
            let now = (book.host_clock)().unwrap_or(book.now);
            (now, book.wall_ms)
        });
        let by_ms = Duration::from_millis(by.unsigned_abs());
        let wall = wall_at(now);
        let set = if by < 0 {
            wall.checked_sub(by_ms)
        } else {
            wall.checked_add(by_ms)
        };
        set.unwrap_or(wall)
    }

    /// Sets the wall clock by this many milliseconds.
    pub fn set_wall(&self, by_ms: i64) {
        self.0
            .with(|book| book.wall_ms = book.wall_ms.saturating_add(by_ms));
    }

    /// Runs `destroy` without recording what it does.
    pub fn muted<T>(&self, destroy: impl FnOnce() -> T) -> T {
        let before = self
            .0
            .with(|book| std::mem::replace(&mut book.state, State::Muted));
        let out = destroy();
        self.0.with(|book| book.state = before);
        out
    }

    /// Sets the time for what happens outside of all hosts.
    pub fn set_now(&self, now: Duration) {
        self.0.with(|book| book.now = now);
    }

    /// Ends the trace and returns it: what is recorded from now on is left out.
    pub fn finish(&self) -> Trace {
        self.0.with(|book| {
            book.state = State::Closed;
            std::mem::take(&mut book.trace)
        })
    }
}

/// Whole microseconds of a virtual time.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panicked(text: &str) -> Event {
        let text = text.to_owned();
        Event::Panicked { text }
    }

    fn recorded(texts: &[&str]) -> Trace {
        let recorder = Recorder::new(|| None);
        for text in texts {
            recorder.record(panicked(text));
        }
        recorder.finish()
    }

    #[test]
    fn the_hash_tells_traces_apart() {
        assert_eq!(recorded(&["a", "b"]).hash(), recorded(&["a", "b"]).hash());
        assert_ne!(recorded(&["a", "b"]).hash(), recorded(&["b", "a"]).hash());
        assert_ne!(recorded(&["a"]).hash(), recorded(&["a", "a"]).hash());
    }

    #[test]
    fn a_line_starts_with_its_time_and_number() {
        let recorder = Recorder::new(|| Some(Duration::from_millis(3)));
        recorder.record(panicked("x"));
        let lines: Vec<_> = recorder.finish().lines().collect();
        assert_eq!(lines, [r#"{"t":3000,"n":0,"ev":"panicked","text":"x"}"#]);
    }

    #[test]
    fn nothing_is_recorded_after_the_end() {
        let recorder = Recorder::new(|| None);
        recorder.finish();
        recorder.record(panicked("late"));
        assert_eq!(recorder.finish(), Trace::default());
    }
}
