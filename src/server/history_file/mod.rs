//! The file in which a server leaves its histories to the next one: a planned restart loses
//! nothing, and after a crash no client is told that it missed nothing.
//!
//! The folder has a pure codec (`encode`, `decode`), a procedure over the steps on a disk (`steps`,
//! which says for each order of events why no wrong file is accepted), and the real disk
//! (`folder`).

use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::app::App;
use crate::bus::Saved;
use crate::rt::Runtime;

mod damage;

mod fault;

mod format;

mod reader;

mod decode;

mod encode;

mod disk;

mod steps;

mod folder;

#[cfg(all(test, not(feature = "loom")))]
mod tests;

use self::damage::Damage;
use self::encode::{Bounds, Encoded};
use self::fault::Fault;
use self::folder::Folder;
use self::steps::Started;

/// The file in which a server leaves its histories to the next one.
///
/// [`open`](Self::open) belongs before the first client, and [`save`](Self::save) behind the end of
/// the last one:
///
/// ```no_run
/// use std::path::Path;
///
/// use busline::App;
/// use busline::rt::Tokio;
/// use busline::server::{HistoryFile, serve};
///
/// # async fn run(
/// #     app: App<Tokio>,
/// #     listener: tokio::net::TcpListener,
/// #     signal: impl Future<Output = ()>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let file = HistoryFile::open(Path::new("/var/lib/news/histories"), &app)?;
/// let served = serve(listener, app.clone(), signal).await;
/// tokio::task::spawn_blocking(move || file.save(&app)).await??;
/// served?;
/// # Ok(())
/// # }
/// ```
///
/// A single server at a time owns a path, by a lock on `PATH.lock` that it holds for life. A server
/// that starts meanwhile neither reads nor writes the file: its rooms get new epochs, and the log
/// warns of it. Leave `PATH.lock` where it is.
#[must_use = "the histories are left to the next server by `save`"]
pub struct HistoryFile {
    path: PathBuf,
    folder: Folder,
    is_owner: bool,
}

/// The histories that were left to the next server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedHistories {
    /// The histories in the file.
    pub histories: usize,
    /// The histories that are not in the file: the rooms get new epochs. They did not fit into
    /// [`HistoryFileLimits`](crate::limits::HistoryFileLimits), or their rooms had a client.
    pub left_out: usize,
    /// The length of the file in bytes; 0 without a file.
    pub bytes: u64,
}

/// The history file cannot be used: the server must not serve, because a later server could find
/// an old file and take it for that of this server.
#[derive(Debug, thiserror::Error)]
#[error("history_file {path}: {fault}")]
pub struct HistoryFileError {
    path: String,
    fault: Fault,
}

impl HistoryFileError {
    fn new(path: &Path, fault: Fault) -> Self {
        let path = path.display().to_string();
        Self { path, fault }
    }
}

impl HistoryFile {
    /// Takes the histories that the last server has left, and owns the path from now on. To be
    /// called before clients are accepted; reads in one go.
    ///
    /// The file is deleted before its histories are taken over. A file that is damaged, too old, or
    /// of another version is renamed to `PATH.bad`, and the log warns of it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written to, or `path` is no regular file: a directory, a pipe,
    /// or a symbolic link, which the server would delete in the place of the file behind it.
    /// Nothing is moved or made then.
    pub fn open<R: Runtime>(path: &Path, app: &App<R>) -> Result<Self, HistoryFileError> {
        if let Some(fault) = Fault::of(path) {
            return Err(HistoryFileError::new(path, fault));
        }
        let limits = app.limits();
        let (bytes_max, ttl) = (limits.history_file.bytes, limits.history.position_ttl);
        let mut folder = Folder::new(path, bytes_max);
        let wall = app.rt().wall();
        let started = steps::start(&mut folder, |bytes| {
            if bytes.len() as u64 > bytes_max {
                return Err(Damage::Large(bytes_max));
            }
            decode::decode(bytes, wall, ttl)
        });
        let started = started.map_err(Fault::Unwritable);
        let started = started.map_err(|fault| HistoryFileError::new(path, fault))?;
        let is_owner = !matches!(started, Started::Guest(_));
        restore(path, app, started);
        let path = path.to_owned();
        Ok(Self {
            path,
            folder,
            is_owner,
        })
    }

    /// Leaves the histories to the next server, and gives the path up. To be called when the last
    /// client has gone; blocks for up to [`HistoryFileLimits::timeout`], and longer on a disk that
    /// does not answer.
    ///
    /// Histories of rooms with a client are left out: the client may have received messages that
    /// the file lacks. The log says what was written.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or `PATH.lock` was removed while this server ran, so that
    /// another one may have served; no part of the file is left.
    ///
    /// [`HistoryFileLimits::timeout`]: crate::limits::HistoryFileLimits::timeout
    pub fn save<R: Runtime>(mut self, app: &App<R>) -> io::Result<SavedHistories> {
        if !self.is_owner {
            return Ok(SavedHistories::default());
        }
        let mut all = app.bus().export();
        let before = all.len();
        all.retain(|saved| !saved.is_live);
        let live = before - all.len();
        let written = if before == 0 {
            Ok(Encoded::default())
        } else {
            self.write(&all, app)
        };
        let encoded = written.inspect_err(|error| {
            let path = self.path.display();
            warn!(%path, %error, "the histories are lost: rooms get new epochs");
        })?;
        let saved = SavedHistories {
            histories: encoded.histories,
            left_out: encoded.left_out + live,
            bytes: encoded.bytes,
        };
        self.report(saved);
        Ok(saved)
    }

    fn write<R: Runtime>(&mut self, all: &[Saved], app: &App<R>) -> io::Result<Encoded> {
        let limits = app.limits().history_file;
        let (rt, wall) = (app.rt(), app.rt().wall());
        // The other half is for the last sync.
        let until = rt.now() + limits.timeout / 2;
        steps::end(&mut self.folder, |output| {
            let bounds = Bounds {
                bytes: limits.bytes,
                is_late: &mut || rt.now() >= until,
            };
            encode::encode(all, wall, output, bounds)
        })
    }

    fn report(&self, saved: SavedHistories) {
        let path = self.path.display();
        let SavedHistories {
            histories,
            left_out,
            bytes,
        } = saved;
        if left_out > 0 {
            warn!(%path, histories, left_out, bytes, "histories saved in part: the rest is lost");
        } else if histories > 0 {
            info!(%path, histories, bytes, "histories saved");
        }
    }
}

/// Takes the histories over, and says in the log what was found.
fn restore<R: Runtime>(path: &Path, app: &App<R>, started: Started<Vec<Saved>>) {
    let path = path.display();
    match started {
        Started::Fresh => {}
        Started::Taken(all) => {
            let (found, restored) = (all.len(), app.bus().import(&all));
            info!(%path, restored, left_out = found - restored, "histories restored");
        }
        Started::Rejected(reason) => {
            warn!(%path, %reason, "history file not accepted: rooms get new epochs");
        }
        Started::Guest(None) => {
            warn!(
                %path,
                "another server has the history file: this one neither reads nor writes it"
            );
        }
        Started::Guest(Some(error)) => {
            warn!(%path, %error, "cannot lock the history file: it is neither read nor written");
        }
    }
}
