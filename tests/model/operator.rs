//! What the operator reads in the log of a service's life.

use std::time::Duration;

use busline::Context;
use busline::app::App;
use busline::limits::LifecyclePolicy;

use crate::model::executor::Manual;
use crate::regressions::idle;
use crate::situations::hangs;

/// What the operator reads, a line an event.
struct Operator {
    lines: std::sync::mpsc::Sender<String>,
}

impl tracing::Subscriber for Operator {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        // Nobody reads what the second one hears.
        let _read = self.lines.send(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// The message and the reason of an event.
struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if ["message", "reason"].contains(&field.name()) {
            self.0 += &format!(" {value:?}");
        }
    }
}

/// What the operator reads while a service runs for one client, which then leaves.
fn log_of<F, Fut, O>(service: F) -> Vec<String>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
    O: busline::service::Outcome,
{
    let (lines, read) = std::sync::mpsc::channel();
    tracing::subscriber::with_default(Operator { lines }, || {
        let rt = Manual::default();
        let policy = LifecyclePolicy {
            linger: Duration::from_secs(1),
            crashes_max: 2.try_into().expect("not zero"),
            ..LifecyclePolicy::default()
        };
        let app = App::builder(rt.clone())
            .lifecycle(policy)
            .service("s", service)
            .expect("a valid name")
            .build();
        let lease = app.registry().join("s").expect("not refused");
        rt.advance(Duration::from_secs(1));
        drop(lease);
        let again = app.registry().join("s");
        drop(again);
        rt.advance(Duration::from_secs(10));
    });
    read.into_iter().collect()
}

/// Makes every thread's events known to the subscribers of all threads, as long as it is held.
///
/// With one subscriber in the process, an event that another thread comes upon first is taken for
/// one that nobody wants, for ever. What was on its way meanwhile is over after a first look.
fn listening() -> tracing::Dispatch {
    let (lines, _) = std::sync::mpsc::channel();
    let second = tracing::Dispatch::new(Operator { lines });
    log_of(idle);
    second
}

#[test]
fn the_operator_reads_where_a_service_goes_and_why() {
    let _second = listening();
    assert_eq!(
        log_of(idle),
        [
            "DEBUG service started",
            "DEBUG service lingers",
            "DEBUG service lingers",
            "DEBUG service stops",
            "DEBUG instance returned",
            "DEBUG service stopped",
        ]
    );
    assert_eq!(
        log_of(hangs)[3..],
        [
            "DEBUG service stops",
            "WARN service did not return in its grace, it is aborted",
            "WARN instance ended aborted",
            "DEBUG service stopped",
        ]
    );
    let failed = |reason: &str| {
        let ended = format!("WARN instance ended {reason}");
        [
            "DEBUG service started".into(),
            ended.clone(),
            "WARN service crashed, it is started again after a wait".into(),
            "DEBUG service started".into(),
            ended,
            "ERROR service failed, it takes no clients for a while".to_owned(),
        ]
    };
    assert_eq!(
        log_of(|_| async { Err::<(), _>("planned") })[..6],
        failed("returned an error: planned")
    );
    let panics = |_: Context| async { std::panic::panic_any(String::from("planned")) };
    assert_eq!(log_of::<_, _, ()>(panics)[..6], failed("panicked: planned"));
    let panics = |_: Context| async { std::panic::panic_any("planned") };
    assert_eq!(log_of::<_, _, ()>(panics)[..6], failed("panicked: planned"));
    let panics = |_: Context| async { std::panic::panic_any(7) };
    assert_eq!(
        log_of::<_, _, ()>(panics)[..6],
        failed("panicked: (no text)")
    );
}
