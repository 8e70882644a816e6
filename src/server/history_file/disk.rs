//! The steps that the server takes on the disk, one method each.

use std::io::{self, Write};

/// A file of a history file, by its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// `PATH`: the histories that a server has left.
    File,
    /// `PATH.new`: the file while it is written; never read.
    New,
    /// `PATH.bad`: the last file that was not accepted; never read.
    Bad,
}

/// A directory with a history file.
pub(super) trait Disk {
    /// A file that is being written.
    type Output: Write;

    /// Takes the lock and keeps it for life; returns whether this server has it.
    fn try_lock(&mut self) -> io::Result<bool>;

    /// Whether the lock of this server still keeps others out: its file has not been removed or
    /// replaced.
    fn has_lock(&mut self) -> io::Result<bool>;

    /// Leaves the mark, and syncs it: a server has served beside the owner of the lock, or in spite
    /// of a file that it could not take away. The mark cannot be cleared while this server lives.
    fn leave_mark(&mut self) -> io::Result<()>;

    /// Whether there is a mark.
    fn is_marked(&mut self) -> io::Result<bool>;

    /// Clears the mark, unless a server lives that has left it.
    fn clear_mark(&mut self) -> io::Result<()>;

    /// Reads a file; `None` if there is none.
    fn read(&mut self, name: Name) -> io::Result<Option<Vec<u8>>>;

    /// Makes an empty file in the place of one that may be there.
    fn write_new(&mut self, name: Name) -> io::Result<Self::Output>;

    /// Waits until the content of a file survives a loss of power.
    fn sync(&mut self, output: &mut Self::Output) -> io::Result<()>;

    /// Renames a file, in the place of one that may be there.
    fn rename(&mut self, from: Name, to: Name) -> io::Result<()>;

    /// Removes a file, if it is there.
    fn remove(&mut self, name: Name) -> io::Result<()>;

    /// Waits until all names of the directory survive a loss of power.
    fn sync_dir(&mut self) -> io::Result<()>;
}
