//! Published keys: one task fetches them, and all threads read them.

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

use crate::app::App;
use crate::limits::FetchPolicy;
use crate::rt::{Clock, Instant, Random, Tokio};
use crate::server::auth::keys::{self, Keys};
use crate::server::auth::schedule::{Outcome, Schedule, Ticket, Told};
use crate::sync::Mutex;

/// When a client may try again if no task fetches keys.
const RETRY: Duration = Duration::from_secs(1);

/// Published keys and the schedule of their fetches.
#[derive(Debug)]
pub(super) struct Published {
    state: Mutex<State>,
    /// Wakes the fetching task for a fetch before the regular time.
    wanted: Notify,
    /// Wakes the waiting clients when a fetch has ended.
    ended: watch::Sender<()>,
    /// A permit of which there is one, so that only one task fetches.
    turn: Semaphore,
}

#[derive(Debug)]
struct State {
    /// `None` until the first successful fetch.
    keys: Option<Arc<Keys>>,
    /// Configured keys that a token may be signed with as well.
    beside: Arc<Keys>,
    /// The algorithms with more keys than are tried for a token, as of the last warning.
    crowded: String,
    schedule: Schedule,
    /// The clock of the fetching task; `None` while there is no such task.
    clock: Option<Tokio>,
}

/// The answer to a client that has asked for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The keys have been fetched; if they are fresh, a key that is missing is not published.
    Fetched { is_fresh: bool },
    /// No newer keys can be fetched now; the present keys may be outdated.
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

    /// The keys of the last successful fetch; empty before.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.state.lock().keys.clone().unwrap_or_default()
    }

    /// Whether any fetch has succeeded.
    pub(super) fn is_known(&self) -> bool {
        self.state.lock().keys.is_some()
    }

    /// Sets the configured keys that a token may be signed with, which count for the warning about
    /// too many keys.
    pub(super) fn stand_beside(&self, keys: Arc<Keys>) {
        let before = std::mem::replace(&mut self.state.lock().beside, keys);
        drop(before);
    }

    /// Requests a fetch at once, or as soon as the running fetch has ended.
    pub(super) fn order(&self) {
        self.state.lock().schedule.order();
        self.wanted.notify_one();
    }

    /// Asks for keys that are newer than this moment, and waits for the fetch if one may begin.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not cancel the fetch, and does not affect other clients.
    pub(super) async fn news(&self) -> News {
        // Subscribe before asking, so that no end of a fetch is missed.
        let mut ended = self.ended.subscribe();
        let ticket = match self.ask() {
            Told::Wait(ticket) => ticket,
            Told::Later(retry_after) => return News::Later { retry_after },
        };
        loop {
            if let Some(news) = self.outcome(ticket) {
                return news;
            }
            // `self` owns the sender, so `changed` cannot fail.
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

    /// Fetches the keys whenever a fetch is due, forever; a failed fetch keeps the old keys.
    ///
    /// A second call waits until the first one is dropped. Dropping the future wakes the clients
    /// that wait for its fetch, with an answer.
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

    /// Waits until a fetch is due, and marks it as begun.
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

    /// Stores the outcome of a fetch, and logs it.
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

    /// Replaces the keys. Returns the algorithms with more keys than are tried for a token, if they
    /// differ from the last time and there are any.
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

/// Marks the fetching task as present, until it is dropped.
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
