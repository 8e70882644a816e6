//! The reasons why a path cannot have a history file.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, is_separator};

/// The reason why a path cannot have a history file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Neither the lock nor the mark can be written.
    #[error("cannot write beside it: {0}. Make its directory, and let the server write there")]
    Unwritable(io::Error),
    /// The path is that of something else. To move or delete it would harm its owner.
    #[error("it is {0}. Name a regular file: the server makes, deletes and replaces it")]
    Foreign(&'static str),
}

impl Fault {
    /// The fault of a path that is not free and not that of a regular file.
    ///
    /// A link is one as well: the server would delete the link and not the file behind it, and the
    /// same link, made anew, would bring an old file back.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).map(|found| found.file_type());
        let is_regular = found.as_ref().is_ok_and(FileType::is_file);
        match found {
            Ok(found) if !is_regular => Some(Self::Foreign(kind(found))),
            _ if names_directory(path) => Some(Self::Foreign("the path of a directory")),
            _ => None,
        }
    }
}

/// Whether a path can only be that of a directory, also where there is none.
fn names_directory(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    path.file_name().is_none() || last.is_some_and(|byte| is_separator(char::from(*byte)))
}

fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        "a directory"
    } else if found.is_symlink() {
        "a symbolic link"
    } else {
        special(found)
    }
}

#[cfg(unix)]
fn special(found: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "no regular file"
}
