//! Published keys: one task fetches them, and all threads ask for them.

use std::convert::Infallible;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{info, warn};

use super::keys::{self, Keys};
use super::schedule::{Outcome, Schedule, Ticket, Told};
use crate::app::App;
use crate::limits::FetchPolicy;
use crate::rt::{Clock, Instant, Random, Tokio};
use crate::sync::Mutex;

/// After which time a client comes again where no task fetches keys.
const RETRY: Duration = Duration::from_secs(1);

/// Published keys, and when they are fetched.
#[derive(Debug)]
pub(super) struct Published {
    state: Mutex<State>,
    /// Tells the task that fetches of a fetch that begins before it is due.
    wanted: Notify,
    /// Tells the clients that wait that a fetch has ended.
    ended: watch::Sender<()>,
    /// The right to fetch, which one task has.
    turn: Semaphore,
}

#[derive(Debug)]
struct State {
    /// None until they have been fetched.
    keys: Option<Arc<Keys>>,
    /// Other keys that a token may be signed with.
    beside: Arc<Keys>,
    /// The algorithms of which there are more keys than a token is checked with, as last told.
    crowded: String,
    schedule: Schedule,
    /// The clock of the task that fetches; none while there is no such task.
    clock: Option<Tokio>,
}

/// The answer to a client that has asked for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The keys have been fetched; if they are fresh, what is not among them is not published.
    Fetched { is_fresh: bool },
    /// It cannot be told now; the keys may have changed all the same.
    Later { retry_after: Duration },
}

impl Published {
    pub(super) fn new(policy: FetchPolicy) -> Self {
        Self {
            state: Mutex::new(State {
                keys: None,
                beside: Arc::default(),
                crowded: String::new(),
                schedule: Schedule::new(policy),
                clock: None,
            }),
            wanted: Notify::new(),
            ended: watch::Sender::new(()),
            turn: Semaphore::new(1),
        }
    }

    /// The keys as they were last fetched; none before.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.state.lock().keys.clone().unwrap_or_default()
    }

    /// Whether they have ever been fetched.
    pub(super) fn is_known(&self) -> bool {
        self.state.lock().keys.is_some()
    }

    /// Says which other keys a token may be signed with, so that it can be told if they are many.
    pub(super) fn stand_beside(&self, keys: Arc<Keys>) {
        let before = std::mem::replace(&mut self.state.lock().beside, keys);
        drop(before);
    }

    /// Has them fetched at once, or as soon as the fetch that runs has ended.
    pub(super) fn order(&self) {
        self.state.lock().schedule.order();
        self.wanted.notify_one();
    }

    /// Asks for keys that are newer than this moment, and waits for the fetch if one may begin.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future keeps no fetch from its end, and no other client from its answer.
    pub(super) async fn news(&self) -> News {
        // From here on no end of a fetch is missed.
        let mut ended = self.ended.subscribe();
        let ticket = match self.ask() {
            Told::Wait(ticket) => ticket,
            Told::Later(retry_after) => return News::Later { retry_after },
        };
        loop {
            if let Some(news) = self.outcome(ticket) {
                return news;
            }
            // The sender is ours, and there as long as we are.
            let _told = ended.changed().await;
        }
    }

    fn ask(&self) -> Told {
        let told = {
            let mut state = self.state.lock();
            let Some(now) = state.clock.as_ref().map(Clock::now) else {
                return Told::Later(RETRY);
            };
            state.schedule.ask(now)
        };
        if matches!(told, Told::Wait(_)) {
            self.wanted.notify_one();
        }
        told
    }

    /// The outcome of this fetch; `None` while it has not ended.
    fn outcome(&self, ticket: Ticket) -> Option<News> {
        let state = self.state.lock();
        let Some(clock) = &state.clock else {
            return Some(News::Later { retry_after: RETRY });
        };
        match state.schedule.outcome(ticket) {
            Outcome::Pending => None,
            Outcome::Fetched { is_fresh } => Some(News::Fetched { is_fresh }),
            Outcome::Failed => Some(News::Later {
                retry_after: state.schedule.retry_after(clock.now()),
            }),
        }
    }

    /// Fetches them whenever that is due, for ever; a fetch that fails keeps the old ones.
    ///
    /// A second call waits until the first one is dropped. Clients that wait for a fetch which is
    /// dropped with it are told at once.
    pub(super) async fn keep<F, E>(
        &self,
        app: &App<Tokio>,
        url: &impl Display,
        fetch: impl Fn() -> F,
    ) -> Infallible
    where
        F: Future<Output = Result<Keys, E>>,
        E: Display,
    {
        let _turn = self.turn.acquire().await.expect("it is never closed");
        let _kept = Kept::begin(self, app.rt());
        loop {
            self.due(app.rt()).await;
            let fetched = AssertUnwindSafe(async { fetch().await }).catch_unwind();
            let fetched = match fetched.await {
                Ok(fetched) => fetched.map_err(|error| error.to_string()),
                Err(_panic) => Err("to read the answer panicked, which is a bug".to_owned()),
            };
            let counter = match &fetched {
                Ok(_) => &app.metrics().keys_fetched,
                Err(_) => &app.metrics().keys_not_fetched,
            };
            counter.add(1);
            self.end(app.rt(), url, fetched);
        }
    }

    /// Waits until a fetch is due, which begins with that.
    async fn due(&self, rt: &Tokio) {
        loop {
            let at = {
                let now = rt.now();
                let schedule = &mut self.state.lock().schedule;
                let at = schedule.begins_at();
                if at <= now {
                    schedule.begin(now);
                    return;
                }
                at
            };
            select(rt.sleep_until(at), pin!(self.wanted.notified())).await;
        }
    }

    /// Takes the outcome of a fetch over, and tells of it.
    fn end(&self, rt: &Tokio, url: &impl Display, fetched: Result<Keys, String>) {
        let (now, random) = (rt.now(), rt.random());
        match fetched {
            Ok(keys) => {
                let count = keys.len();
                let crowded = self.replace(keys, now, random);
                info!(%url, keys = count, "keys fetched");
                if let Some(algorithms) = crowded {
                    keys::tell_of(&algorithms);
                }
            }
            Err(error) => {
                let (is_known, retry_in) = {
                    let mut state = self.state.lock();
                    state.schedule.end(now, false, random);
                    let retry_in = state.schedule.begins_at().saturating_since(now);
                    (state.keys.is_some(), retry_in)
                };
                if is_known {
                    warn!(%url, %error, ?retry_in, "keys not fetched, the old ones stay");
                } else {
                    warn!(%url, %error, ?retry_in, "keys not fetched, and there are no older ones");
                }
            }
        }
        self.ended.send_replace(());
    }

    /// Puts these keys in the place of the old ones, and returns of which algorithms there now are
    /// more than a token is checked with, if these are others than before.
    fn replace(&self, keys: Keys, now: Instant, random: u64) -> Option<String> {
        let keys = Arc::new(keys);
        let mut state = self.state.lock();
        let crowded = Keys::crowded([&state.beside, &keys]);
        let is_other = crowded != state.crowded;
        state.crowded.clone_from(&crowded);
        let before = state.keys.replace(keys);
        state.schedule.end(now, true, random);
        drop(state);
        drop(before);
        (is_other && !crowded.is_empty()).then_some(crowded)
    }
}

/// The task that fetches is there.
struct Kept<'a>(&'a Published, Tokio);

impl<'a> Kept<'a> {
    fn begin(published: &'a Published, rt: &Tokio) -> Self {
        published.state.lock().clock = Some(rt.clone());
        Self(published, rt.clone())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let Self(published, rt) = self;
        let now = rt.now();
        let clock = {
            let mut state = published.state.lock();
            state.schedule.abandon(now);
            state.clock.take()
        };
        drop(clock);
        published.ended.send_replace(());
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
