//! The histories that the binary leaves to its next start.

use std::thread::Builder;
use std::time::Duration;

use busline::App;
use busline::rt::{Clock, Tokio};
use busline::server::{Config, HistoryFile};
use futures::channel::oneshot;
use futures::future::{Either, select};
use tracing::warn;

use crate::Problem;

/// The longest time for dropped sessions to be gone on all threads, after a drain that had to end.
const GONE_MAX: Duration = Duration::from_secs(1);

/// The time between two looks at them.
const LOOK: Duration = Duration::from_millis(5);

/// The time that the disk has beyond the configured one, before the process ends all the same.
const BEYOND: Duration = Duration::from_secs(1);

/// The file for the histories, if one is configured.
pub(crate) struct LeftHistories(Option<HistoryFile>);

impl LeftHistories {
    /// Takes the histories that the last process has left.
    pub(crate) fn open(config: &Config, app: &App<Tokio>) -> Result<Self, Problem> {
        let path = config.history_file();
        let file = path.map(|path| HistoryFile::open(path, app)).transpose()?;
        Ok(Self(file))
    }

    /// Leaves the histories to the next process; the log says how. Failures change nothing else.
    pub(crate) async fn save(self, app: &App<Tokio>) {
        let Some(file) = self.0 else {
            return;
        };
        all_gone(app).await;
        let (running, end) = oneshot::channel::<()>();
        let (saving, limit) = (app.clone(), app.limits().history_file.timeout + BEYOND);
        // A thread apart: a second signal ends the process also while the disk does not answer, and
        // the runtime would wait for a thread of its own.
        let thread = Builder::new().name("busline-histories".to_owned());
        let started = thread.spawn(move || {
            // The file logs its own errors.
            drop(file.save(&saving));
            drop(running);
        });
        if let Err(error) = started {
            warn!(%error, "the histories are lost: no thread can be started");
        }
        let late = app.rt().sleep_until(app.rt().now() + limit);
        if let Either::Right(_) = select(end, late).await {
            warn!(
                ?limit,
                "the histories are lost: the disk has not answered in time"
            );
        }
    }
}

/// Waits until no session reads a history any more.
async fn all_gone(app: &App<Tokio>) {
    let until = app.rt().now() + GONE_MAX;
    while app.bus().histories().live > 0 && app.rt().now() < until {
        app.rt().sleep_until(app.rt().now() + LOOK).await;
    }
}
