//! The progress of a run: one line on standard error, if it is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::clock::now;

/// Time between two updates.
const INTERVAL: Duration = Duration::from_millis(100);

/// Length of a full bar in characters.
const BAR: usize = 30;

/// The line with the progress.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    next: Instant,
}

impl Progress {
    /// A line that is shown if standard error is a terminal.
    pub(super) fn new() -> Self {
        Self {
            is_shown: stderr().is_terminal(),
            next: now(),
        }
    }

    /// Shows how many connections are open.
    pub(super) fn opening(&mut self, open: usize, clients: usize) {
        if self.is_due(now()) {
            let share = open as f64 / clients.max(1) as f64;
            self.show(&format!(
                "{} {open} of {clients} clients connected",
                bar(share)
            ));
        }
    }

    /// Shows the share of the run that has passed, and the number of delivered messages.
    pub(super) fn running(&mut self, at: Instant, share: f64, delivered: u64) {
        if self.is_due(at) {
            self.show(&format!("{} {delivered} messages", bar(share)));
        }
    }

    /// Clears the line.
    pub(super) fn clear(&mut self) {
        if self.is_shown {
            self.show("");
        }
    }

    fn is_due(&mut self, at: Instant) -> bool {
        let is_due = self.is_shown && at >= self.next;
        if is_due {
            self.next = at + INTERVAL;
        }
        is_due
    }

    fn show(&self, line: &str) {
        // A closed terminal does not stop the measurement.
        let _written = write!(stderr(), "\r\x1b[K{line}");
    }
}

fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * BAR as f64) as usize;
    format!("[{:<BAR$}] {:3.0} %", "#".repeat(full), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_always_as_long() {
        assert_eq!(bar(0.0), format!("[{}]   0 %", " ".repeat(BAR)));
        assert_eq!(bar(0.5), format!("[{:<BAR$}]  50 %", "#".repeat(BAR / 2)));
        assert_eq!(bar(7.0), format!("[{}] 100 %", "#".repeat(BAR)));
    }
}
