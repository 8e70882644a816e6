//! Output of the binary besides its log. A reader that is gone or does not read can neither end nor
//! block the process.

use std::io::{self, ErrorKind, Write};
use std::thread::{self, Builder};
use std::time::Duration;

use futures::channel::oneshot;

use crate::Problem;

/// Longest time that the end of the process waits for a reader of its error.
pub(crate) const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// The number of parts of a wait, because a parked thread may wake up early.
const PARTS: u32 = 64;

/// Writes the output of a command to standard output.
///
/// # Errors
///
/// When the output cannot be written; a closed pipe is not an error, as its reader has read enough.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    write_to(&mut io::stdout().lock(), text)
}

fn write_to(output: &mut impl Write, text: &str) -> Result<(), Problem> {
    let written = output.write_all(text.as_bytes());
    is_read(written.and_then(|()| output.flush()))
}

/// Writes the help or the version to standard output, with colours on a terminal.
///
/// # Errors
///
/// The errors of [`print`].
pub(crate) fn print_help(help: &clap::Error) -> Result<(), Problem> {
    is_read(help.print().and_then(|()| io::stdout().flush()))
}

fn is_read(written: io::Result<()>) -> Result<(), Problem> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Writes to standard output without waiting for a reader.
pub(crate) fn greet(text: String) {
    let _unread = apart(move || drop(write_to(&mut io::stdout(), &text)));
}

/// Writes to standard error, and waits for its reader for a moment.
pub(crate) fn complain(text: String) {
    if text.is_empty() {
        return;
    }
    within(LAST_WORDS_MAX, move || {
        drop(io::stderr().write_all(text.as_bytes()));
    });
}

/// Runs a task on a thread of its own, and waits for its end, at most for `limit`.
///
/// A task that writes may be blocked forever by a reader that does not read; the end of the process
/// ends the task.
pub(crate) fn within(limit: Duration, task: impl FnOnce() + Send + 'static) {
    let mut end = apart(task);
    for _ in 0..PARTS {
        if end.try_recv() != Ok(None) {
            return;
        }
        thread::park_timeout(limit / PARTS);
    }
}

/// Runs a task on a thread of its own; the channel closes when the task ends.
fn apart(task: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (running, end) = oneshot::channel();
    let waiting = thread::current();
    // If no thread can be spawned, the text is lost and the channel closes at once.
    let _started = Builder::new()
        .name("busline-output".to_owned())
        .spawn(move || {
            task();
            drop(running);
            waiting.unpark();
        });
    end
}

/// Standard error. If it is non-blocking, a write waits until it is writable.
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match io::stderr().write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => until_writable()?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(unix)]
fn until_writable() -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let stderr = io::stderr();
    poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
    Ok(())
}

/// On other systems standard error is never non-blocking.
#[cfg(not(unix))]
fn until_writable() -> io::Result<()> {
    Err(ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a line, and then fails.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_problem_and_a_full_device_is_one() {
        assert!(write_to(&mut Failing(ErrorKind::BrokenPipe), "a").is_ok());
        let problem = write_to(&mut Failing(ErrorKind::StorageFull), "a").expect_err("it is full");
        assert!(problem.to_string().contains("standard output"), "{problem}");
        let mut all = Vec::new();
        write_to(&mut all, "text").expect("a vector takes everything");
        assert_eq!(all, b"text");
    }

    #[test]
    fn a_task_is_waited_for_unless_it_takes_too_long() {
        let (done, mut is_done) = oneshot::channel();
        within(Duration::from_secs(3600), move || {
            done.send(()).expect("it is waited for");
        });
        assert_eq!(is_done.try_recv(), Ok(Some(())));
        let (_held, hold) = std::sync::mpsc::channel::<()>();
        // The test fails by waiting forever.
        within(Duration::from_millis(1), move || {
            let _held = hold.recv();
        });
    }
}
