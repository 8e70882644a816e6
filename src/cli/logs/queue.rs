//! Lines of the log on their way to standard error: whoever serves never waits for their reader.

use std::io::{self, Write};
use std::time::Duration;

use busline::rt::{Clock, Instant, Tokio};
use busline::server::{Complaint, Config, LogFormat};
use futures::channel::oneshot;
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::output::{StandardError, within};

/// Longest time that the end of the process waits for a reader of the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// How it is told that lines were dropped.
const DROPPED: &str = "lines of the log were dropped: whoever reads them is too slow, or cannot";

/// A bounded queue of lines, and the thread that writes them.
///
/// A line for which there is no room is dropped and counted.
pub(super) struct Queue {
    lines: NonBlocking,
    losses: Losses,
    guard: Option<WorkerGuard>,
}

/// How many lines there may be, and how they are written.
struct Shape {
    lines_max: usize,
    format: LogFormat,
}

impl Queue {
    /// Lines for standard error, as the configuration says.
    pub(super) fn to_standard_error(config: &Config, rt: &Tokio) -> Self {
        let shape = Shape {
            lines_max: config.log_lines(),
            format: config.log_format(),
        };
        let rt = rt.clone();
        Self::start(StandardError, shape, move || rt.now())
    }

    fn start(
        output: impl Write + Send + 'static,
        shape: Shape,
        now: impl Fn() -> Instant + Send + 'static,
    ) -> Self {
        let unwritten = Counter::default();
        let (tell, losses) = oneshot::channel();
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(shape.lines_max)
            .thread_name("busline-log")
            .finish(Lines {
                output,
                format: shape.format,
                now,
                unwritten: unwritten.clone(),
                losses: Known::Later(losses),
                complaint: Complaint::default(),
                told: 0,
            });
        let full = lines.error_counter();
        let losses = Losses { full, unwritten };
        // The thread is there as long as its guard, and there is no line yet.
        let _told = tell.send(losses.clone());
        Self {
            lines,
            losses,
            guard: Some(guard),
        }
    }

    /// Where lines are written to.
    pub(super) fn writer(&self) -> NonBlocking {
        self.lines.clone()
    }

    /// Tells how many lines were dropped.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let losses = self.losses.clone();
        move || losses.total()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let guard = self.guard.take();
        // It waits for the reader for a second, and complains on standard output where it has found
        // no room: on a thread of its own nothing of that can hold the end of the process.
        within(FLUSH_MAX, move || drop(guard));
    }
}

/// How many lines were dropped.
#[derive(Clone)]
struct Losses {
    /// Those for which there was no room.
    full: ErrorCounter,
    /// Those that could not be written.
    unwritten: Counter,
}

impl Losses {
    fn total(&self) -> u64 {
        self.full.dropped_lines() as u64 + self.unwritten.get()
    }
}

/// The counts of a queue, which is there only after what writes its lines.
enum Known {
    Later(oneshot::Receiver<Losses>),
    Now(Losses),
}

impl Known {
    fn total(&mut self) -> u64 {
        if let Self::Later(losses) = self
            && let Ok(Some(losses)) = losses.try_recv()
        {
            *self = Self::Now(losses);
        }
        match self {
            Self::Later(_) => 0,
            Self::Now(losses) => losses.total(),
        }
    }
}

/// Writes lines, and now and then beside them how many were dropped.
struct Lines<W, N> {
    output: W,
    format: LogFormat,
    now: N,
    unwritten: Counter,
    losses: Known,
    complaint: Complaint,
    /// How many the complaint knows of.
    told: u64,
}

impl<W: Write, N: Fn() -> Instant> Lines<W, N> {
    fn line(&mut self, line: &[u8]) -> bool {
        let is_written = self.output.write_all(line).is_ok();
        if !is_written {
            self.unwritten.inc();
        }
        is_written
    }

    fn complain(&mut self) {
        let total = self.losses.total();
        let more = total - self.told;
        self.told = total;
        if let Some(lines) = self.complaint.due((self.now)(), more) {
            self.line(notice(self.format, lines).as_bytes());
        }
    }
}

impl<W: Write, N: Fn() -> Instant> Write for Lines<W, N> {
    /// Takes a whole line, as its queue hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The reader is there.
        if self.line(line) {
            self.complain();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The line that tells of lines that were dropped: it takes no place in the queue, and no filter
/// keeps it back.
fn notice(format: LogFormat, lines: u64) -> String {
    let mut time = String::new();
    // A line without its time tells what it is for.
    let _formatted = SystemTime.format_time(&mut Writer::new(&mut time));
    match format {
        LogFormat::Json => {
            let fields = json!({"message": DROPPED, "lines": lines});
            let line = json!({"timestamp": time, "level": "WARN", "fields": fields});
            format!("{line}\n")
        }
        LogFormat::Text => format!("{time}  WARN {DROPPED} lines={lines}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes a line only when it is told to, and one that is gone.
    struct Reader {
        takes: Receiver<()>,
        taken: Sender<String>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.takes.recv().map_err(gone)?;
            let text = String::from_utf8_lossy(line).into_owned();
            // Who has seen enough has no use for it.
            drop(self.taken.send(text));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue of two lines, what lets its reader take one, and what that has taken.
    fn queue(format: LogFormat) -> (Queue, Sender<()>, Receiver<String>) {
        let (take, takes) = channel();
        let (taken, read) = channel();
        let shape = Shape {
            lines_max: 2,
            format,
        };
        let at = || Instant::from_start(Duration::from_secs(1));
        (Queue::start(Reader { takes, taken }, shape, at), take, read)
    }

    fn say(queue: &Queue, line: &str) {
        let written = queue.writer().write_all(line.as_bytes());
        written.expect("it never fails");
    }

    #[test]
    fn lines_without_room_are_dropped_and_told_once_the_reader_is_back() {
        let (queue, take, read) = queue(LogFormat::Text);
        let dropped = queue.dropped();
        // The thread that writes holds the first one, sooner or later.
        let mut said = 0;
        while dropped() < 3 {
            said += 1;
            say(&queue, &format!("{said}\n"));
        }
        for _ in 0..9 {
            take.send(()).expect("it runs");
        }
        assert_eq!(read.recv().as_deref(), Ok("1\n"));
        let told = read.recv().expect("a line");
        assert!(told.ends_with(&format!("{DROPPED} lines=3\n")), "{told}");
        assert_eq!(read.recv().as_deref(), Ok("2\n"));
        say(&queue, "after\n");
        let mut rest = read.into_iter().take_while(|line| line != "after\n");
        assert!(rest.all(|line| line != told), "it is told once");
        assert_eq!(dropped(), 3);
    }

    #[test]
    fn what_is_told_in_json_is_json() {
        let line: serde_json::Value =
            serde_json::from_str(&notice(LogFormat::Json, 7)).expect("JSON");
        assert_eq!(line["fields"]["lines"], 7);
        assert_eq!(line["level"], "WARN");
        assert!(
            line["timestamp"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (queue, take, _read) = queue(LogFormat::Text);
        drop(take);
        say(&queue, "lost\n");
        let dropped = queue.dropped();
        while dropped() < 1 {
            std::thread::yield_now();
        }
        assert_eq!(dropped(), 1);
    }

    #[test]
    fn the_end_waits_for_a_reader_that_reads_and_not_for_one_that_does_not() {
        let (ended, take, read) = queue(LogFormat::Text);
        for line in ["first\n", "second\n"] {
            take.send(()).expect("it runs");
            say(&ended, line);
            assert_eq!(read.recv().as_deref(), Ok(line));
        }
        say(&ended, "last\n");
        take.send(()).expect("it runs");
        drop(ended);
        assert_eq!(read.try_recv().as_deref(), Ok("last\n"));
        let (stalled, _take, _read) = queue(LogFormat::Text);
        let dropped = stalled.dropped();
        while dropped() < 1 {
            say(&stalled, "nobody reads it\n");
        }
        // A wait for ever is the failure.
        drop(stalled);
    }
}
