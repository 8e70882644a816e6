//! What the binary writes besides its log: no reader that is gone, or does not read, can end it or
//! hold it.

use std::io::{self, ErrorKind, Write};
use std::thread::{self, Builder};
use std::time::Duration;

use futures::channel::oneshot;

use crate::Problem;

/// Longest time that the end of the process waits for a reader of its reason.
pub(crate) const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Into how many parts a wait is cut, as a thread that waits may be woken for something else.
const PARTS: u32 = 64;

/// Writes to standard output what a command was asked for.
///
/// # Errors
///
/// When it cannot be written; a reader that is gone has read enough.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    write_to(&mut io::stdout().lock(), text)
}

fn write_to(output: &mut impl Write, text: &str) -> Result<(), Problem> {
    let written = output.write_all(text.as_bytes());
    is_read(written.and_then(|()| output.flush()))
}

/// Writes the help to standard output, or the version, with the colours that a terminal has.
///
/// # Errors
///
/// As those of [`print`].
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

/// Writes to standard output, for whoever reads it: nobody need.
pub(crate) fn greet(text: String) {
    let _unread = apart(move || drop(write_to(&mut io::stdout(), &text)));
}

/// Writes to standard error, and waits a moment for whoever reads it.
pub(crate) fn complain(text: String) {
    if text.is_empty() {
        return;
    }
    within(LAST_WORDS_MAX, move || {
        drop(io::stderr().write_all(text.as_bytes()));
    });
}

/// Runs a task on a thread of its own, and waits for its end, but no longer than this.
///
/// A task that writes may be held for ever by a reader that does not read; the end of the process
/// ends it.
pub(crate) fn within(limit: Duration, task: impl FnOnce() + Send + 'static) {
    let mut end = apart(task);
    for _ in 0..PARTS {
        if end.try_recv() != Ok(None) {
            return;
        }
        thread::park_timeout(limit / PARTS);
    }
}

/// Runs a task on a thread of its own; the end of the channel is the end of the task.
fn apart(task: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (running, end) = oneshot::channel();
    let waiting = thread::current();
    // Where there is no thread to be had nobody reads it: the channel has its end at once.
    let _started = Builder::new()
        .name("busline-output".to_owned())
        .spawn(move || {
            task();
            drop(running);
            waiting.unpark();
        });
    end
}

/// Standard error, also where it is set not to wait: then its room is waited for.
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

/// There is no such setting.
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
        // A wait for ever is the failure.
        within(Duration::from_millis(1), move || {
            let _held = hold.recv();
        });
    }
}
