//! The services of a run: those of the product, and one that does what it is told.

use std::sync::Arc;
use std::time::Duration;

use busline::Context;
use busline::app::{App, Builder};
use busline::rt::Clock;
use busline::service::{Service, echo, ping, timenow};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::executor::{Executor, Number};
use crate::shared::Shared;

/// The names of the services.
pub(crate) const SERVICES: [&str; 4] = ["echo", "ping", "script", "timenow"];

/// The service that crashes, dozes and overstays when it is told to.
pub(crate) const SCRIPT: &str = "script";

/// What is seen of the instances of one service from within; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Bodies(Shared<Inner>);

#[derive(Default)]
struct Inner {
    /// The tasks of the instances that run.
    tasks: Vec<Number>,
    /// The most there were at once.
    most: usize,
    /// Messages that they have published.
    published: u64,
    /// Messages that they have received.
    received: u64,
    /// Whether an instance does something else than waiting for messages.
    is_busy: bool,
}

impl Bodies {
    pub(crate) fn tasks(&self) -> Vec<Number> {
        self.0.with(|inner| inner.tasks.clone())
    }

    pub(crate) fn most(&self) -> usize {
        self.0.with(|inner| inner.most)
    }

    pub(crate) fn published(&self) -> u64 {
        self.0.with(|inner| inner.published)
    }

    pub(crate) fn received(&self) -> u64 {
        self.0.with(|inner| inner.received)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.with(|inner| inner.is_busy)
    }

    fn enter(&self, task: Option<Number>) -> Body {
        let task = task.unwrap_or_default();
        self.0.with(|inner| {
            inner.tasks.push(task);
            inner.most = inner.most.max(inner.tasks.len());
            inner.is_busy = false;
        });
        Body(self.clone(), task)
    }

    fn set_busy(&self, is_busy: bool) {
        self.0.with(|inner| inner.is_busy = is_busy);
    }

    fn publish(&self, ctx: &Context, text: String) {
        self.0.with(|inner| inner.published += 1);
        ctx.publish(text);
    }
}

/// One instance that runs.
struct Body(Bodies, Number);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.0.with(|inner| {
            let place = inner.tasks.iter().position(|task| *task == self.1);
            if let Some(place) = place {
                inner.tasks.swap_remove(place);
            }
            if inner.tasks.is_empty() {
                inner.is_busy = false;
            }
        });
    }
}

/// A service whose instances are seen.
struct Seen {
    service: Arc<dyn Service>,
    bodies: Bodies,
    rt: Executor,
}

impl Service for Seen {
    fn run(&self, ctx: Context) -> BoxFuture<'static, Result<(), String>> {
        let body = self.bodies.enter(self.rt.running());
        let run = self.service.run(ctx);
        async move {
            let done = run.await;
            drop(body);
            done
        }
        .boxed()
    }
}

/// Registers all services, in the order of [`SERVICES`].
pub(crate) fn register(
    builder: Builder<Executor>,
    rt: &Executor,
    bodies: &[Bodies],
) -> App<Executor> {
    let scripted = bodies[2].clone();
    let (of, clock) = (scripted, rt.clone());
    let services: [Arc<dyn Service>; 4] = [
        Arc::new(echo),
        Arc::new(ping),
        Arc::new(move |ctx| script(ctx, of.clone(), clock.clone())),
        Arc::new(timenow),
    ];
    let mut builder = builder;
    for ((name, service), bodies) in SERVICES.iter().zip(services).zip(bodies) {
        let (bodies, rt) = (bodies.clone(), rt.clone());
        let seen = Seen {
            service,
            bodies,
            rt,
        };
        builder = builder
            .service(name, seen)
            .expect("the names are valid and different");
    }
    builder.build()
}

/// Says of which generation it is, and does what the first word of each message says.
async fn script(mut ctx: Context, bodies: Bodies, clock: Executor) -> Result<(), String> {
    let generation = ctx.generation();
    let mut ending = None;
    bodies.publish(&ctx, format!("of {generation} begins"));
    while let Some(message) = ctx.recv().await {
        bodies.0.with(|inner| inner.received += 1);
        let text = message.as_text().unwrap_or("").to_owned();
        match text.split(' ').next() {
            Some("doze") => {
                bodies.set_busy(true);
                // To sleep on after the stop would be to overstay.
                let _ = ctx.sleep(Duration::from_secs(4)).await;
                bodies.set_busy(false);
            }
            Some("error") => return Err("as it was told".to_owned()),
            // Planned: the hook that prints panics is not to know.
            Some("panic") => std::panic::resume_unwind(Box::new("as it was told")),
            Some("slow") => ending = Some(20),
            Some("stuck") => ending = Some(u32::MAX),
            Some(_) | None => bodies.publish(&ctx, text),
        }
    }
    bodies.set_busy(true);
    for number in 0..ending.unwrap_or(0) {
        clock
            .sleep_until(ctx.now() + Duration::from_millis(100))
            .await;
        // An instance that never ends does not fill a trace.
        if number < 20 {
            bodies.publish(&ctx, format!("of {generation} says {number}"));
        }
    }
    Ok(())
}
