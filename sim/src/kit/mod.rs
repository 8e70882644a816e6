//! For users of busline: your own services under virtual time, with clients that you write.
//!
//! A test names the application, the clients and how many seeds are run. Each seed draws the
//! network, the faults, how many clients there are and when they come; the same seed gives the same
//! run, byte for byte, and a run that breaks a rule is told with the line that shows it again.
//!
//! ```
//! use busline::{App, Context};
//! use sim::kit::{Client, Faults, Gone, Sim};
//!
//! async fn shout(mut ctx: Context) {
//!     while let Some(message) = ctx.recv().await {
//!         if let Some(text) = message.as_text() {
//!             ctx.reply(&message, text.to_uppercase());
//!         }
//!     }
//! }
//!
//! async fn asks(client: Client) -> Result<(), Gone> {
//!     let mut socket = client.connect("shout").await?;
//!     socket.send("hello").await?;
//!     assert_eq!(socket.recv().await?, "HELLO");
//!     socket.close().await
//! }
//!
//! let report = Sim::new(|rt| App::builder(rt).service("shout", shout).unwrap().build())
//!     .clients(1..=8, asks)
//!     .faults(Faults::all())
//!     .seeds(0..20)
//!     .run();
//! report.assert_ok();
//! ```
//!
//! What is checked without being asked for: every client comes to its end before the drain and no
//! assertion of a client fails; after the drain nothing is left (tasks, sockets, topics,
//! subscriptions, instances); services run exactly while they have clients, once at a time; no
//! message is lost without being counted; every byte of the server is legal RFC 6455; no service
//! crashes, unless [`Sim::crashes_are_right`]. Rules of your own are [`Checker`]s, or closures.
//!
//! | variable | what it does to a test |
//! | --- | --- |
//! | `SIM_SEED=7` | runs this seed and no other |
//! | `SIM_TRACE=FILE` | writes every event of the last run, one line of JSON each |
//! | `SIM_HTML=FILE` | draws the last run as a page for a browser |

use std::future::Future;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use busline::App;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

mod client;
mod faults;
mod report;
mod rules;
mod stage;

pub use self::client::{Client, Gone, Socket};
pub use self::faults::{Fault, Faults};
pub use self::report::{Failure, Report};
use self::rules::Rule;
pub use crate::checker::{Breach, Checker, History};
use crate::host::Build;
pub use crate::rt::SimRuntime;

/// What one client does, from its first connection to its end.
type Play = Arc<dyn Fn(Client) -> LocalBoxFuture<'static, Result<(), Gone>> + Send + Sync>;

/// Some clients of one kind, as many as a seed draws.
#[derive(Clone)]
struct Troupe {
    count: RangeInclusive<u32>,
    play: Play,
}

/// A simulation of an application of your own.
#[must_use = "nothing is run before `run`"]
pub struct Sim {
    build: Build,
    troupes: Vec<Troupe>,
    seeds: Range<u64>,
    faults: Faults,
    within: Duration,
    may_crash: bool,
    checkers: Vec<Rc<dyn Checker>>,
}

impl Sim {
    /// A simulation of the application that `build` makes, on the runtime it is given.
    ///
    /// It is called once for each seed, and again whenever the server is started again after a
    /// [`Fault::Crash`]. State that services share must be made in it, or one run would see what is
    /// left of another.
    pub fn new(build: impl Fn(SimRuntime) -> App<SimRuntime> + Send + Sync + 'static) -> Self {
        Self {
            build: Arc::new(build),
            troupes: Vec::new(),
            seeds: 0..100,
            faults: Faults::none(),
            within: Duration::from_secs(120),
            may_crash: false,
            checkers: Vec::new(),
        }
    }

    /// Adds clients, of each seed as many as it draws from `count`; each does what `play` says.
    ///
    /// Assertions in it are the test. An error is the end of a connection, and breaks a rule unless
    /// a fault of the run breaks connections: [`Fault::Partition`] and [`Fault::Crash`] do.
    pub fn clients<F, Fut>(mut self, count: RangeInclusive<u32>, play: F) -> Self
    where
        F: Fn(Client) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Gone>> + 'static,
    {
        let play: Play = Arc::new(move |client| play(client).boxed_local());
        self.troupes.push(Troupe { count, play });
        self
    }

    /// The seeds that are run, the last one excluded; 0..100 unless this is called.
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// What may go wrong; nothing unless this is called.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The virtual time that clients have, from the beginning of a run to the drain: 120 s unless
    /// this is called. Faults come in the first third of it.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Lets services crash, and the server warn of it, without breaking a rule.
    pub fn crashes_are_right(mut self) -> Self {
        self.may_crash = true;
        self
    }

    /// Adds a rule of your own.
    pub fn checker(mut self, checker: impl Checker + 'static) -> Self {
        self.checkers.push(Rc::new(checker));
        self
    }

    /// Adds a rule of your own as a closure, with a name of one word.
    pub fn rule<F>(self, name: &'static str, rule: F) -> Self
    where
        F: Fn(&History<'_>) -> Result<(), Breach> + 'static,
    {
        self.checker(Rule::new(name, rule))
    }

    /// Runs the seeds, up to the first that breaks a rule.
    ///
    /// # Panics
    ///
    /// When runs cannot be repeated on this platform, or `SIM_SEED` is no number.
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        for seed in report::seeds(&self.seeds) {
            let judged = self.judge(seed);
            report.add(seed, judged);
            if report.failure().is_some() {
                break;
            }
        }
        report
    }
}
