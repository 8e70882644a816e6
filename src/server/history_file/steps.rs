//! The procedure at the start and at the end of a server, for any disk.
//!
//! A file must be accepted by the server that starts next after the file was written, or by none:
//! a later server would tell clients that they missed nothing, although they missed the messages of
//! the servers between. So a server that serves has either taken the file away for good, or has
//! left a mark that keeps every later server from accepting it; a server that can do neither does
//! not serve. The orders, one by one:
//!
//! - *The file is good.* The server removes it, syncs the directory, accepts it, and serves. A loss
//!   of power before the sync may bring the file back, but then nothing was served of it.
//! - *There is no file.* The directory is synced all the same: a server that was killed between
//!   both steps has removed a file that a loss of power would bring back.
//! - *The file is not accepted.* The server renames it to `PATH.bad`, or removes it if that fails,
//!   syncs the directory, and serves.
//! - *A step fails.* The server accepts nothing, leaves a mark, and serves. If the mark fails too,
//!   the start fails.
//! - *The lock is taken* (a server starts before the last one has ended): the guest leaves a mark
//!   and serves. It reads and writes no file: not at its start, and not later, when the owner of
//!   the lock has written one. The next owner finds the mark, and does not accept the owner's file:
//!   the guest has served since. It clears the mark after the file is away for good. The mark stays
//!   while the guest lives, because the guest may serve after each later owner.
//! - *The server ends after its drain.* It writes `PATH.new`, syncs it, renames it to `PATH`, and
//!   syncs the directory. A loss of power before the last step leaves the whole file or none.
//! - *The lock is lost* (someone has removed `PATH.lock`, and the next server locks a new one): at
//!   its end the server finds that its lock is not the one of the path. It writes no file, because
//!   the next server may have served meanwhile, and leaves a mark, because it has served beside
//!   that one itself. It asks again right before the rename; a next server that starts after that
//!   has removed `PATH.new` before it serves, so the rename fails. No check helps where a third
//!   server starts before the first one has ended: the lock file must be left alone.
//! - *The server crashes.* It has taken the file away at its start, so there is none.

use std::io;

use super::damage::Damage;
use super::disk::{Disk, Name};
use crate::planted::{self, Bug};

/// The outcome of a start that may serve.
#[derive(Debug)]
pub(super) enum Started<T> {
    /// The server owns the lock, and there was no file.
    Fresh,
    /// The server owns the lock, and has taken the file away: it alone accepts the content.
    Taken(T),
    /// The server owns the lock, and accepts no content.
    Rejected(Rejected),
    /// Another server owns the lock, or the lock could not be asked for.
    Guest(Option<io::Error>),
}

/// The reason why a file was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("{0}")]
    Damaged(Damage),
    #[error("another server has served since it was written")]
    Marked,
    #[error("it cannot be read: {0}")]
    Unread(io::Error),
    #[error("it cannot be taken away: {0}")]
    Kept(io::Error),
}

/// Takes the lock and the file, whose bytes `decode` turns into content.
///
/// # Errors
///
/// When neither the file could be taken away nor a mark be left: the server must not serve.
pub(super) fn start<D: Disk, T>(
    disk: &mut D,
    decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
) -> io::Result<Started<T>> {
    let busy = match disk.try_lock() {
        Ok(true) => return own(disk, decode),
        Ok(false) => None,
        Err(error) => Some(error),
    };
    disk.leave_mark()?;
    Ok(Started::Guest(busy))
}

fn own<D: Disk, T>(
    disk: &mut D,
    decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
) -> io::Result<Started<T>> {
    let is_marked = disk.is_marked().unwrap_or(true);
    // The rest of a server that crashed while it wrote; it is never read.
    let _left = disk.remove(Name::New);
    let found = match disk.read(Name::File) {
        Ok(Some(_)) if is_marked => Err(Rejected::Marked),
        Ok(Some(bytes)) => decode(&bytes).map(Some).map_err(Rejected::Damaged),
        Ok(None) => Ok(None),
        Err(error) => Err(Rejected::Unread(error)),
    };
    if let Err(error) = take_away(disk, found.is_ok()) {
        disk.leave_mark()?;
        return Ok(Started::Rejected(Rejected::Kept(error)));
    }
    if is_marked {
        // A mark that stays costs the next server its histories, and nothing more.
        let _cleared = disk.clear_mark();
    }
    Ok(match found {
        Ok(Some(content)) => Started::Taken(content),
        Ok(None) => Started::Fresh,
        Err(rejected) => Started::Rejected(rejected),
    })
}

/// Takes the file away for good.
fn take_away<D: Disk>(disk: &mut D, is_good: bool) -> io::Result<()> {
    if planted::is(Bug::HistoryFileReadTwice) && is_good {
        return Ok(());
    }
    if is_good || disk.rename(Name::File, Name::Bad).is_err() {
        disk.remove(Name::File)?;
    }
    disk.sync_dir()
}

/// Writes the file.
///
/// # Errors
///
/// The first failed step; no part of a file is left.
pub(super) fn end<D: Disk, T>(
    disk: &mut D,
    write: impl FnOnce(&mut D::Output) -> io::Result<T>,
) -> io::Result<T> {
    check_lock(disk)?;
    let written = write_new(disk, write);
    let written = written.and_then(|written| {
        check_lock(disk)?;
        disk.rename(Name::New, Name::File)?;
        Ok(written)
    });
    if written.is_err() {
        // On a full disk this gives the room back.
        let _left = disk.remove(Name::New);
    }
    let written = written?;
    disk.sync_dir()?;
    Ok(written)
}

/// Leaves a mark and fails, unless the lock still keeps others out.
fn check_lock<D: Disk>(disk: &mut D) -> io::Result<()> {
    let lost = match disk.has_lock() {
        Ok(true) => return Ok(()),
        Ok(false) => io::Error::other("its lock file was removed while this server ran"),
        Err(error) => error,
    };
    disk.leave_mark()?;
    Err(lost)
}

fn write_new<D: Disk, T>(
    disk: &mut D,
    write: impl FnOnce(&mut D::Output) -> io::Result<T>,
) -> io::Result<T> {
    let mut output = disk.write_new(Name::New)?;
    let written = write(&mut output)?;
    disk.sync(&mut output)?;
    Ok(written)
}
