//! The queue of log lines for standard error: a thread that serves never waits for their reader.

use std::io::{self, Write};
use std::time::Duration;

use busline::rt::{Clock, Instant, Tokio};
use busline::server::{Config, LogFormat, RateLimitedLog};
use futures::channel::oneshot;
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::output::{StandardError, within};

/// Longest time that the end of the process waits for a reader of the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The message that reports dropped lines.
const DROPPED: &str = "lines of the log were dropped: whoever reads them is too slow, or cannot";

/// A bounded queue of lines, and the thread that writes them.
///
/// A line that does not fit is dropped and counted.
pub(super) struct Queue {
    lines: NonBlocking,
    losses: Losses,
    guard: Option<WorkerGuard>,
}

/// The capacity of the queue, and the format of its lines.
struct Shape {
    lines_max: usize,
    format: LogFormat,
}

impl Queue {
    /// Creates a queue for standard error, with the configured capacity and format.
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
                dropped_log: RateLimitedLog::default(),
                told: 0,
            });
        let full = lines.error_counter();
        let losses = Losses { full, unwritten };
        // The receiver is in the writing thread, which lives as long as its guard; no line is
        // queued yet.
        let _told = tell.send(losses.clone());
        Self {
            lines,
            losses,
            guard: Some(guard),
        }
    }

    /// A writer that puts lines into the queue.
    pub(super) fn writer(&self) -> NonBlocking {
        self.lines.clone()
    }

    /// Returns a function that counts the dropped lines.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let losses = self.losses.clone();
        move || losses.total()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let guard = self.guard.take();
        // Dropping the guard waits up to a second for the reader, and prints to standard output if
        // the queue is full. On a thread of its own the drop cannot block the end of the process.
        within(FLUSH_MAX, move || drop(guard));
    }
}

/// The number of dropped lines.
#[derive(Clone)]
struct Losses {
    /// Lines that did not fit into the queue.
    full: ErrorCounter,
    /// Lines that could not be written.
    unwritten: Counter,
}

impl Losses {
    fn total(&self) -> u64 {
        self.full.dropped_lines() as u64 + self.unwritten.get()
    }
}

/// The losses of a queue. The queue sends them to its writing thread, which exists before they do.
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

/// Writes lines, and a rate-limited line about dropped lines.
struct Lines<W, N> {
    output: W,
    format: LogFormat,
    now: N,
    unwritten: Counter,
    losses: Known,
    dropped_log: RateLimitedLog,
    /// The number of dropped lines that the rate-limited log has counted.
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
        if let Some(lines) = self.dropped_log.due((self.now)(), more) {
            self.line(notice(self.format, lines).as_bytes());
        }
    }
}

impl<W: Write, N: Fn() -> Instant> Write for Lines<W, N> {
    /// Writes a whole line, as the queue passes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The write has shown that there is a reader, who can read about dropped lines.
        if self.line(line) {
            self.complain();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The line that reports dropped lines; written past the queue and the filter.
fn notice(format: LogFormat, lines: u64) -> String {
    let mut time = String::new();
    // If the time cannot be formatted, the line is still useful.
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

    /// A reader that takes a line only on request, and fails once the test has dropped its channel.
    struct Reader {
        takes: Receiver<()>,
        taken: Sender<String>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.takes.recv().map_err(gone)?;
            let text = String::from_utf8_lossy(line).into_owned();
            // The test may have stopped receiving.
            drop(self.taken.send(text));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue of two lines, the sender that lets its reader take a line, and the lines taken.
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
        // The writing thread holds the first line sooner or later, in addition to the queue.
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
        // The end of the queue is the end of the thread that writes: by then the line is counted.
        drop(queue);
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
        // The test fails by waiting forever.
        drop(stalled);
    }
}
