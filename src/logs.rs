//! Where tracing goes: lines on standard error, and traces to a collector.

use std::io::IsTerminal;
use std::time::Duration;

use busline::rt::Tokio;
use busline::server::{Config, LogFormat};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(feature = "otel")]
pub(crate) use self::traced::Logs;
#[cfg(not(feature = "otel"))]
pub(crate) use self::untraced::Logs;

/// Lines on standard error, written as the configuration says.
fn lines<S>(config: &Config) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match config.log_format() {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    }
}

/// Without traces: lines only.
#[cfg(not(feature = "otel"))]
mod untraced {
    use super::*;
    use crate::Problem;

    /// Logs that need no end.
    pub(crate) struct Logs;

    impl Logs {
        /// Begins to log as the configuration says.
        #[expect(clippy::unnecessary_wraps, reason = "with traces it can fail")]
        pub(crate) fn start(config: &Config, _: &Tokio) -> Result<Self, Problem> {
            let lines = lines(config).with_filter(config.log().clone());
            tracing_subscriber::registry().with(lines).init();
            Ok(Self)
        }

        /// There is nothing to send.
        #[expect(clippy::unused_async, reason = "with traces it waits")]
        pub(crate) async fn finish(&self, _: Duration) {}
    }
}

/// With traces.
#[cfg(feature = "otel")]
mod traced {
    use busline::server::Traces;
    use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};

    use super::*;
    use crate::Problem;

    /// Longest time that the end of the process waits for a collector.
    const FLUSH_MAX: Duration = Duration::from_secs(5);

    /// What has to be sent before the process ends.
    pub(crate) struct Logs {
        traces: Option<Traces>,
    }

    impl Logs {
        /// Begins to log, and to trace, as the configuration says.
        pub(crate) fn start(config: &Config, rt: &Tokio) -> Result<Self, Problem> {
            // That traces are not sent we say ourselves, less often and with the reason.
            let not_told = filter_fn(|event| {
                event.target() != "opentelemetry-otlp"
                    && event.name() != "BatchSpanProcessor.ExportError"
            });
            let not_told = not_told.with_max_level_hint(LevelFilter::TRACE);
            let lines = lines(config).with_filter(config.log().clone().and(not_told));
            let policy = config.traces().cloned();
            let traces = policy.map(|policy| Traces::start(policy, rt)).transpose()?;
            tracing_subscriber::registry()
                .with(lines)
                .with(traces.as_ref().map(Traces::layer))
                .init();
            Ok(Self { traces })
        }

        /// Sends what there still is, and gives up when this time is over, or before.
        pub(crate) async fn finish(&self, left: Duration) {
            if let Some(traces) = &self.traces {
                traces.finish(left.min(FLUSH_MAX)).await;
            }
        }
    }
}
