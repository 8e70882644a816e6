//! Visits: each connection to a room with a history, with its wish and its answer.

use crate::checker::History;
use crate::checker::conns::Conn;
use crate::frames::Seen;
use crate::journal::{JOURNAL, Journal};
use crate::past::{Fact, Place};
use crate::rooms::name;
use crate::trace::Event;

/// A connection that has asked for a room with a history. All times are microseconds.
pub(crate) struct Visit<'a> {
    pub(super) client: u32,
    /// The number of the server whose histories it has.
    pub(super) server: usize,
    pub(super) room: String,
    /// Whether these are those of a server before it.
    pub(crate) goes_on: bool,
    /// The position that it showed.
    pub(crate) since: Option<Place>,
    /// The number of newest messages that it wanted.
    pub(crate) last: u64,
    /// When its whole request was read.
    pub(super) asked: u64,
    /// When it was answered.
    pub(super) answered: u64,
    pub(super) conn: &'a Conn<'a>,
}

/// The visits of a run that were answered, in the order of their connections.
pub(crate) fn visits<'a>(history: &'a History<'_>) -> Vec<Visit<'a>> {
    let starts = starts(history);
    let conns = history.all_conns().values();
    let visits = conns.filter_map(|conn| {
        let server = starts.partition_point(|start| *start <= conn.first);
        let visit = Visit::of(conn, history.line(server))?;
        let goes_on = visit.server != server;
        Some(Visit { goes_on, ..visit })
    });
    visits.collect()
}

/// The numbers of the events with which servers were started.
pub(in crate::checker) fn starts(history: &History<'_>) -> Vec<u64> {
    let starts = history.entries.iter();
    let starts = starts.filter(|entry| entry.event == Event::Started);
    starts.map(|entry| entry.n).collect()
}

impl<'a> Visit<'a> {
    fn of(conn: &'a Conn<'a>, server: usize) -> Option<Self> {
        let path = conn.path().filter(|path| path.starts_with(JOURNAL))?;
        let mut visit = Self {
            client: 0,
            server,
            room: name(path)?,
            goes_on: false,
            since: None,
            last: 0,
            asked: conn.requested()?,
            answered: conn.answered()?,
            conn,
        };
        for (key, value) in conn.query()?.split('&').filter_map(|it| it.split_once('=')) {
            match key {
                "n" => visit.client = value.parse().ok()?,
                "history" => visit.last = value.parse().ok()?,
                "since" => {
                    let (epoch, offset) = value.split_once(':')?;
                    let epoch = epoch.to_owned();
                    let offset = offset.parse().ok()?;
                    visit.since = Some(Place { epoch, offset });
                }
                _ => {}
            }
        }
        Some(visit)
    }

    /// Whether it speaks JSON.
    pub(super) fn is_json(&self) -> bool {
        self.conn.said().speech.json
    }

    /// The position that counts; that of a plain client does not, nor does one without an epoch
    /// where no client may read.
    pub(super) fn shown(&self, journal: Journal) -> Option<&Place> {
        let since = self.since.as_ref()?;
        let counts = !journal.is_private || !since.epoch.is_empty();
        (self.is_json() && counts).then_some(since)
    }

    /// What it was told, after the response.
    pub(crate) fn told(&self) -> impl Iterator<Item = (u64, &Seen)> {
        let seen = self.conn.said().seen.iter();
        let seen = seen.map(|(t, seen)| (*t, seen));
        seen.filter(|(_, seen)| !matches!(seen, Seen::Head(_) | Seen::Ping(_) | Seen::Pong))
    }

    /// The first notice.
    pub(crate) fn greeting(&self) -> Option<&Fact> {
        match self.told().next()? {
            (_, Seen::Fact(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.conn.status()
    }
}
