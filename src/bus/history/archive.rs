//! The kinds of rooms that have a history, and all that their histories share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc as StdArc;

use super::ledger::{HistoryCounts, Ledger};
use super::maker::Maker;
use super::moment::Moment;
use super::position::{Epoch, Position};
use super::saved::Saved;
use super::{History, Kept};
use crate::bus::room::ServiceName;
use crate::bus::topic::Topic;
use crate::limits::{HistoryLimits, Retention};
use crate::planted::{self, Bug};
use crate::sync::Arc;

/// The histories that a bus is to keep. A bus has neither clock nor randomness of its own: both
/// come with the histories.
#[derive(Clone)]
pub struct Histories {
    /// The services and kinds of rooms with a history, for their messages to all clients.
    pub kinds: BTreeMap<ServiceName, Retention>,
    /// The bounds of all histories together.
    pub limits: HistoryLimits,
    /// The source of the present moment. Called without a lock; must not block.
    pub now: StdArc<dyn Fn() -> Moment + Send + Sync>,
    /// The source of epochs: 64 random bits. Called under locks of the bus; must not use the bus.
    pub random: StdArc<dyn Fn() -> u64 + Send + Sync>,
}

/// The kinds with a history, the sums over all histories, and their sources of time and chance.
pub(in crate::bus) struct Archive {
    kinds: BTreeMap<ServiceName, StdArc<Retention>>,
    limits: HistoryLimits,
    now: StdArc<dyn Fn() -> Moment + Send + Sync>,
    random: StdArc<dyn Fn() -> u64 + Send + Sync>,
    ledger: Arc<Ledger>,
}

/// The archive at the present moment, which was read before any lock.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) struct Present<'a> {
    pub(in crate::bus) archive: &'a Archive,
    pub(in crate::bus) now: Moment,
}

impl Archive {
    pub(in crate::bus) fn new(histories: Histories) -> Self {
        let Histories {
            kinds,
            limits,
            now,
            random,
        } = histories;
        let kinds = kinds.into_iter();
        Self {
            kinds: kinds.map(|(name, own)| (name, own.into())).collect(),
            limits,
            now,
            random,
            ledger: Arc::new(Ledger::new(limits.history_bytes)),
        }
    }

    pub(in crate::bus) fn limits(&self) -> &HistoryLimits {
        &self.limits
    }

    pub(in crate::bus) fn present(&self) -> Present<'_> {
        Present {
            archive: self,
            now: self.now(),
        }
    }

    /// The present moment.
    pub(in crate::bus) fn now(&self) -> Moment {
        (self.now)()
    }

    /// Whether the topic has a history.
    pub(in crate::bus) fn records(&self, topic: &Topic) -> bool {
        self.retention(topic).is_some()
    }

    fn retention(&self, topic: &Topic) -> Option<&StdArc<Retention>> {
        self.kinds.get(topic.room_of_all()?.kind())
    }

    /// The position of a room that no history is kept of: a fresh epoch.
    pub(in crate::bus) fn unknown(&self) -> Position {
        let epoch = Epoch::from_bits((self.random)());
        Position { epoch, offset: 0 }
    }

    /// Makes the history of a topic; `None` if it is to have none.
    pub(in crate::bus) fn make(
        &self,
        topic: &Topic,
        maker: &Maker,
        now: Moment,
    ) -> Option<Box<Kept>> {
        let mut epoch = self.unknown().epoch;
        if planted::is(Bug::EpochKeptOverCrash) {
            let name = topic.to_string();
            epoch = Epoch::from_bits(
                name.bytes()
                    .fold(0, |bits, byte| bits << 5 ^ u64::from(byte)),
            );
        }
        let history = History::new(epoch, self.retention(topic)?, now.at);
        Some(Box::new(Kept::new(history, maker, &self.ledger)))
    }

    /// Makes a history of what was saved of it; `None` if the topic is to have none.
    pub(in crate::bus) fn restore(&self, saved: &Saved, now: Moment) -> Option<Box<Kept>> {
        let history = saved.restore(self.retention(&saved.topic)?, now)?;
        let mut kept = Kept::new(history, &saved.maker, &self.ledger);
        kept.note_use(now.at);
        Some(Box::new(kept))
    }

    /// Whether all histories together keep more bytes than they may.
    pub(in crate::bus) fn is_over(&self) -> bool {
        self.ledger.is_over()
    }

    /// The sums over all histories.
    pub(in crate::bus) fn counts(&self) -> HistoryCounts {
        HistoryCounts {
            bytes: self.ledger.bytes(),
            dropped: self.ledger.dropped(),
            ..HistoryCounts::default()
        }
    }
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histories")
            .field("kinds", &self.kinds)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("kinds", &self.kinds)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
