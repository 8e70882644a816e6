//! The destinations of tracing: lines on standard error, and traces to a collector.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::time::Duration;

use busline::rt::Tokio;
use busline::server::{Config, LogFormat};
use tracing::{Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

mod queue;

#[cfg(feature = "otel")]
pub(crate) use self::traced::Logs;
#[cfg(not(feature = "otel"))]
pub(crate) use self::untraced::Logs;

use self::queue::Queue;

/// The layer for lines on standard error, in the configured format.
fn lines<S>(config: &Config, queue: &Queue) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(queue.writer())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match config.log_format() {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    }
}

/// Makes each panic a line of the log.
///
/// The hook of the standard library writes to standard error itself: if the reader of standard
/// error has stopped, a panic of a service would block the thread that serves.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        let is_asked_for = trace.status() == BacktraceStatus::Captured;
        error!(
            reason = panic.payload_as_str().unwrap_or("(no text)"),
            at = panic.location().map(display),
            backtrace = is_asked_for.then(|| display(&trace)),
            "panicked"
        );
    }));
}

/// The build without traces: lines only.
#[cfg(not(feature = "otel"))]
mod untraced {
    use super::*;
    use crate::Problem;

    /// The log; dropping it writes the lines that are still queued.
    pub(crate) struct Logs {
        queue: Queue,
    }

    impl Logs {
        /// Starts the log with the configured format and filter.
        #[expect(clippy::unnecessary_wraps, reason = "with traces it can fail")]
        pub(crate) fn start(config: &Config, rt: &Tokio) -> Result<Self, Problem> {
            let queue = Queue::to_standard_error(config, rt);
            let lines = lines(config, &queue).with_filter(config.log().clone());
            tracing_subscriber::registry().with(lines).init();
            log_panics();
            Ok(Self { queue })
        }

        /// Returns a function that counts the dropped lines.
        pub(crate) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
            self.queue.dropped()
        }

        /// Does nothing: this build has no traces to send.
        #[expect(clippy::unused_async, reason = "with traces it waits")]
        pub(crate) async fn finish(&self, _: Duration) {}
    }
}

/// The build with traces.
#[cfg(feature = "otel")]
mod traced {
    use busline::server::Traces;
    use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};

    use super::*;
    use crate::Problem;

    /// Longest time that the end of the process waits for a collector.
    const FLUSH_MAX: Duration = Duration::from_secs(5);

    /// The log and the traces. Dropping it writes the lines that are still queued;
    /// [`finish`](Self::finish) sends the traces.
    pub(crate) struct Logs {
        traces: Option<Traces>,
        queue: Queue,
    }

    impl Logs {
        /// Starts the log, and the traces if they are configured.
        pub(crate) fn start(config: &Config, rt: &Tokio) -> Result<Self, Problem> {
            // `Traces` reports failed exports itself, in fewer lines and with the reason.
            let not_told = filter_fn(|event| {
                event.target() != "opentelemetry-otlp"
                    && event.name() != "BatchSpanProcessor.ExportError"
            });
            let not_told = not_told.with_max_level_hint(LevelFilter::TRACE);
            let queue = Queue::to_standard_error(config, rt);
            let lines = lines(config, &queue).with_filter(config.log().clone().and(not_told));
            let policy = config.traces().cloned();
            let traces = policy.map(|policy| Traces::start(policy, rt)).transpose()?;
            tracing_subscriber::registry()
                .with(lines)
                .with(traces.as_ref().map(Traces::layer))
                .init();
            log_panics();
            Ok(Self { traces, queue })
        }

        /// Returns a function that counts the dropped lines.
        pub(crate) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
            self.queue.dropped()
        }

        /// Sends the remaining traces, and gives up after `left`, or earlier.
        pub(crate) async fn finish(&self, left: Duration) {
            if let Some(traces) = &self.traces {
                traces.finish(left.min(FLUSH_MAX)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Taken(Sender<Vec<u8>>);

    impl Write for Taken {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_and_of_nothing_else() {
        let (taken, read) = channel();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || Taken(taken.clone()));
        let log = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(log, || {
            log_panics();
            drop(std::panic::catch_unwind(|| panic!("planned")));
            drop(std::panic::take_hook());
        });
        let line = String::from_utf8(read.recv().expect("a line")).expect("text");
        for word in [
            "ERROR",
            "panicked",
            "reason=\"planned\"",
            "at=src/cli/logs/mod.rs:",
        ] {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
}
