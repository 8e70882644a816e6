//! The log of a topic from its first message on; before, it takes no memory.
//!
//! Each client has a topic of its own, on which nothing may ever be said.

use super::counts::TopicCounts;
use super::log::{Cursor, Log};
use super::memory::TopicStatus;
use super::topic::Topic;
use crate::limits::Window;

#[derive(Debug)]
pub(super) enum LazyLog {
    Kept(Box<Log>),
    /// Nothing was ever said: all there is are the readers.
    Quiet {
        readers: usize,
        window: Window,
    },
}

impl LazyLog {
    pub(super) fn new(window: Window) -> Self {
        Self::Quiet { readers: 0, window }
    }

    /// The log, if anything was ever said.
    pub(super) fn kept(&self) -> Option<&Log> {
        match self {
            Self::Kept(log) => Some(log),
            Self::Quiet { .. } => None,
        }
    }

    /// The log, if anything was ever said.
    pub(super) fn kept_mut(&mut self) -> Option<&mut Log> {
        match self {
            Self::Kept(log) => Some(log),
            Self::Quiet { .. } => None,
        }
    }

    pub(super) fn readers(&self) -> usize {
        match self {
            Self::Kept(log) => log.readers(),
            Self::Quiet { readers, .. } => *readers,
        }
    }

    /// The number of the next message that is published.
    pub(super) fn next_number(&self) -> u64 {
        self.kept().map_or(0, Log::next_number)
    }

    /// The number of the message that the slowest reader is to receive next.
    pub(super) fn received(&self) -> u64 {
        self.kept().map_or(0, Log::received)
    }

    /// Messages that fit without anybody losing one, if they are short.
    pub(super) fn room(&self) -> usize {
        self.kept().map_or(usize::MAX, Log::room)
    }

    /// Payload bytes kept for subscribers that have not read them.
    pub(super) fn bytes(&self) -> usize {
        self.kept().map_or(0, Log::bytes)
    }

    /// Messages between the cursor and the tail that are still kept.
    pub(super) fn unread(&self, cursor: &Cursor) -> u64 {
        self.kept().map_or(0, |log| log.unread(cursor))
    }

    pub(super) fn counts(&self) -> TopicCounts {
        self.kept().map_or_else(TopicCounts::default, Log::counts)
    }

    pub(super) fn status(&self, topic: &Topic) -> TopicStatus {
        match self {
            Self::Kept(log) => log.status(topic),
            Self::Quiet { readers, window } => Log::of(*window, *readers).status(topic),
        }
    }

    /// Adds a reader that gets what is published from now on.
    pub(super) fn attach(&mut self) -> Cursor {
        match self {
            Self::Kept(log) => log.attach(),
            Self::Quiet { readers, .. } => {
                *readers += 1;
                Cursor::START
            }
        }
    }

    /// Removes a reader; what it has not read counts as unsubscribed.
    pub(super) fn detach(&mut self, cursor: Cursor) {
        match self {
            Self::Kept(log) => log.detach(cursor),
            Self::Quiet { readers, .. } => *readers -= 1,
        }
    }

    /// The log, from now on in any case.
    #[inline]
    pub(super) fn keep(&mut self) -> &mut Log {
        loop {
            match self {
                Self::Kept(log) => return log,
                Self::Quiet { readers, window } => {
                    *self = Self::Kept(Box::new(Log::of(*window, *readers)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_topic_is_as_a_log_to_which_nothing_was_appended() {
        let window = Window::default();
        let (mut lazy, mut log) = (LazyLog::new(window), Log::of(window, 0));
        let cursors = [(); 3].map(|()| (lazy.attach(), log.attach()));
        let topic: Topic = "t".parse().expect("a valid name");
        for (quiet, kept) in cursors {
            assert_eq!(quiet, kept);
            assert_eq!(lazy.readers(), log.readers());
            assert_eq!(lazy.next_number(), log.next_number());
            assert_eq!((lazy.bytes(), lazy.unread(&quiet)), (0, log.unread(&kept)));
            assert_eq!(lazy.counts(), log.counts());
            assert_eq!(lazy.status(&topic), log.status(&topic));
            lazy.detach(quiet);
            log.detach(kept);
        }
        assert!(lazy.kept().is_none() && lazy.kept_mut().is_none());
        assert_eq!((lazy.readers(), log.readers()), (0, 0));
        assert_eq!(size_of::<LazyLog>(), 24);
    }

    #[test]
    fn the_readers_of_a_quiet_topic_get_its_first_message() {
        let mut lazy = LazyLog::new(Window::default());
        let mut cursors = [(); 3].map(|()| lazy.attach());
        lazy.keep().append("a".into());
        let log = lazy.kept_mut().expect("something was said");
        assert_eq!((log.readers(), log.counts().owed), (3, 3));
        for cursor in &mut cursors {
            assert!(log.is_ready(cursor));
            let mut into = Vec::new();
            assert_eq!(log.read(cursor, usize::MAX, &mut into), 0);
            assert_eq!(into, ["a".into()]);
        }
        assert_eq!((lazy.bytes(), lazy.counts().pending), (0, 0));
    }
}
