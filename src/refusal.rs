//! The last requests that were refused for their host or their page.

use std::time::{Duration, SystemTime};

use crate::instant::Instant;
use crate::limits::{REFUSAL_LINES, REFUSAL_TEXT_BYTES_MAX, REFUSALS_KEPT};
use crate::sync::Mutex;

/// The time for which [`REFUSAL_LINES`] are counted.
const LINES_PER: Duration = Duration::from_secs(60);

/// The fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The request names a host that is not the server's.
    Host,
    /// The request comes from a page of a foreign host.
    Origin,
}

/// A refused request, in text that is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The audience of the listener.
    pub(crate) listener: &'static str,
    pub(crate) wrong: Wrong,
    /// The page's origin, if the request has one.
    pub(crate) origin: Option<String>,
    /// The host that the request names, if it names one.
    pub(crate) host: Option<String>,
}

/// Requests that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) refusal: Refusal,
    /// The number of requests.
    pub(crate) times: u64,
    /// The time of the last request.
    pub(crate) last: SystemTime,
}

/// The last [`REFUSALS_KEPT`] reasons, each once.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The kept reasons, the newest last.
    kept: Vec<Kept>,
    lines: Lines,
}

/// The lines in the log, at most [`REFUSAL_LINES`] a minute.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of the minute, and the number of its lines.
    minute: Option<(Instant, u32)>,
    /// The refusals since the last line.
    untold: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(State::default()))
    }
}

impl Refusals {
    /// Keeps a refusal. If the log may have a line now, returns the number of earlier refusals
    /// without a line.
    pub(crate) fn keep(&self, refusal: Refusal, now: Instant, wall: SystemTime) -> Option<u64> {
        let mut state = self.0.lock();
        let same = |kept: &Kept| kept.refusal == refusal;
        let before = state.kept.iter().position(same);
        let is_full = state.kept.len() >= REFUSALS_KEPT;
        let before = before.or_else(|| is_full.then_some(0));
        let before = before.map(|index| state.kept.remove(index));
        let times = before.filter(same).map_or(0, |before| before.times);
        state.kept.push(Kept {
            refusal,
            times: times + 1,
            last: wall,
        });
        state.lines.due(now)
    }

    /// The last refusals, the newest first.
    pub(crate) fn last(&self) -> Vec<Kept> {
        let state = self.0.lock();
        state.kept.iter().rev().cloned().collect()
    }
}

impl Lines {
    fn due(&mut self, now: Instant) -> Option<u64> {
        let minute = self.minute;
        let current = minute.filter(|(began, _)| now.saturating_since(*began) < LINES_PER);
        let (began, lines) = current.unwrap_or((now, 0));
        if lines >= REFUSAL_LINES {
            self.untold += 1;
            return None;
        }
        self.minute = Some((began, lines + 1));
        Some(std::mem::take(&mut self.untold))
    }
}

/// Escapes text of a client as visible ASCII, cut to [`REFUSAL_TEXT_BYTES_MAX`] bytes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(REFUSAL_TEXT_BYTES_MAX)];
    let rest = if start.len() < bytes.len() { "..." } else { "" };
    format!("{}{rest}", start.escape_ascii())
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn refusal(origin: &str) -> Refusal {
        Refusal {
            listener: "clients",
            wrong: Wrong::Origin,
            origin: Some(origin.to_owned()),
            host: None,
        }
    }

    fn keep(refusals: &Refusals, origin: &str, seconds: u64) -> Option<u64> {
        let since = Duration::from_secs(seconds);
        let wall = SystemTime::UNIX_EPOCH + since;
        refusals.keep(refusal(origin), Instant::from_start(since), wall)
    }

    fn last(refusals: &Refusals) -> Vec<(String, u64)> {
        let last = refusals.last().into_iter();
        last.map(|kept| (kept.refusal.origin.unwrap_or_default(), kept.times))
            .collect()
    }

    #[test]
    fn the_last_ones_are_kept_each_once_and_the_newest_first() {
        let refusals = Refusals::default();
        for (second, origin) in ["a", "b", "a", "a"].into_iter().enumerate() {
            keep(&refusals, origin, second as u64);
        }
        assert_eq!(last(&refusals), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
        let newest = refusals.last()[0].last;
        assert_eq!(newest, SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    }

    #[test]
    fn one_more_than_are_kept_takes_the_place_of_the_oldest() {
        let refusals = Refusals::default();
        for number in 0..REFUSALS_KEPT {
            keep(&refusals, &number.to_string(), 0);
        }
        keep(&refusals, "0", 1);
        assert_eq!(last(&refusals).len(), REFUSALS_KEPT);
        keep(&refusals, "new", 2);
        let kept = last(&refusals);
        assert_eq!(kept.len(), REFUSALS_KEPT);
        assert_eq!(kept[0], ("new".to_owned(), 1));
        assert_eq!(kept[1], ("0".to_owned(), 2));
        assert!(!kept.contains(&("1".to_owned(), 1)), "it was the oldest");
    }

    #[test]
    fn a_minute_has_no_more_lines_than_it_may_and_the_next_one_tells_how_many_are_missing() {
        let refusals = Refusals::default();
        for _ in 0..REFUSAL_LINES {
            assert_eq!(keep(&refusals, "a", 5), Some(0));
        }
        assert_eq!(keep(&refusals, "a", 5), None);
        assert_eq!(keep(&refusals, "b", 64), None);
        assert_eq!(keep(&refusals, "b", 65), Some(2));
        assert_eq!(keep(&refusals, "b", 65), Some(0));
    }

    #[test]
    fn what_is_shown_is_visible_ascii_and_no_longer_than_it_may_be() {
        let text = "a\u{1b}[31m\r\n\t\"\\\u{e9}\u{202e}".as_bytes();
        let shown = printable(text);
        assert!(
            shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{shown}"
        );
        assert!(shown.starts_with("a\\x1b[31m\\r\\n\\t"), "{shown}");
        let most = "x".repeat(REFUSAL_TEXT_BYTES_MAX);
        assert_eq!(printable(most.as_bytes()), most);
        let more = printable(format!("{most}y").as_bytes());
        assert_eq!(more, format!("{most}..."));
    }
}
