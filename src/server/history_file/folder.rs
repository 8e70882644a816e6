//! The history file on a real disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::disk::{Disk, Name};

/// The bytes after which a file that is written is synced, so that the time it takes shows early
/// and the last sync is short.
const SYNCED: usize = 32 << 20;

/// The bytes that are gathered for one write.
const GATHERED: usize = 1 << 20;

/// A history file with the files beside it.
pub(super) struct Folder {
    path: PathBuf,
    /// The largest file that is read.
    bytes_max: u64,
    /// The lock, and the lock on the mark; both are given back with the end of the process.
    lock: Option<File>,
    mark: Option<File>,
}

impl Folder {
    pub(super) fn new(path: &Path, bytes_max: u64) -> Self {
        Self {
            path: path.to_owned(),
            bytes_max,
            lock: None,
            mark: None,
        }
    }

    fn named(&self, name: Name) -> PathBuf {
        match name {
            Name::File => self.path.clone(),
            Name::New => self.beside(".new"),
            Name::Bad => self.beside(".bad"),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// Opens a file whose content and name stay.
    fn open(&self, ending: &str) -> io::Result<File> {
        let mut options = private();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.beside(ending))
    }

    fn lock_file(&self) -> io::Result<File> {
        self.open(".lock")
    }

    fn mark_file(&self) -> io::Result<File> {
        self.open(".mark")
    }
}

impl Drop for Folder {
    /// A process that was forked meanwhile has the same files open, and would keep the locks.
    fn drop(&mut self) {
        let held = [self.lock.take(), self.mark.take()];
        for file in held.into_iter().flatten() {
            drop(file.unlock());
        }
    }
}

impl Disk for Folder {
    type Output = Output;

    fn try_lock(&mut self) -> io::Result<bool> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                // The file may have been removed before it was locked.
                self.has_lock()
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn has_lock(&mut self) -> io::Result<bool> {
        match &self.lock {
            Some(lock) => is_at(lock, &self.beside(".lock")),
            None => Ok(false),
        }
    }

    fn leave_mark(&mut self) -> io::Result<()> {
        let mut file = self.mark_file()?;
        // An owner holds it for itself while it clears the mark, and never longer.
        file.lock_shared()?;
        file.write_all(b"a server has served beside the owner of the lock\n")?;
        file.sync_all()?;
        self.mark = Some(file);
        self.sync_dir()
    }

    fn is_marked(&mut self) -> io::Result<bool> {
        match fs::metadata(self.beside(".mark")) {
            Ok(found) => Ok(found.len() > 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn clear_mark(&mut self) -> io::Result<()> {
        let file = self.mark_file()?;
        match file.try_lock() {
            Ok(()) => file.set_len(0).and_then(|()| file.sync_all()),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&mut self, name: Name) -> io::Result<Option<Vec<u8>>> {
        let path = self.named(name);
        match fs::metadata(&path) {
            // To open a pipe would wait for its writer.
            Ok(found) if !found.is_file() => return Err(io::Error::other("it is no file")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        // A byte more shows that the file is too large.
        let mut file = file.take(self.bytes_max.saturating_add(1));
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write_new(&mut self, name: Name) -> io::Result<Output> {
        self.remove(name)?;
        let mut options = private();
        let file = options.write(true).create_new(true);
        let file = file.open(self.named(name))?;
        let file = Synced { file, unsynced: 0 };
        Ok(Output(BufWriter::with_capacity(GATHERED, file)))
    }

    fn sync(&mut self, output: &mut Output) -> io::Result<()> {
        output.0.flush()?;
        output.0.get_ref().file.sync_all()
    }

    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        fs::rename(self.named(from), self.named(to))
    }

    fn remove(&mut self, name: Name) -> io::Result<()> {
        match fs::remove_file(self.named(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        sync_folder(folder.unwrap_or_else(|| Path::new(".")))
    }
}

/// Options for files that only their owner may read: they have the messages of clients.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is of Unix"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether an open file is the one at a path, and not one that was there before.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Other systems tell no identities of files.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems know no such thing, and keep names in order by themselves.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Other systems open no directories.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A file that is being written.
pub(super) struct Output(BufWriter<Synced>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file that is synced again and again while it is written.
struct Synced {
    file: File,
    unsynced: usize,
}

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNCED {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
