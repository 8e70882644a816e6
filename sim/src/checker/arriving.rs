//! Arriving: a message that takes longer than it may closes its connection, and no other does.

use super::conns::Conn;
use super::{Breach, Checker, History};
use crate::inbound::{Begun, begun};
use crate::wild::Wild;
use busline::limits::Limits;

/// A message is whole within its time from its first byte, which is longer by a second for each KiB
/// of it, or its connection is closed with 1008; and nobody is closed with 1008 who has no such
/// message, and may send what it likes.
///
/// Judged is no connection that is not read for a while because its client has sent what it may.
pub struct Arriving;

/// RFC 6455 7.4.1: a policy was broken.
const POLICY: u16 = 1008;

const SECOND: u64 = 1_000_000;
const KIB: u64 = 1024;

impl Checker for Arriving {
    fn name(&self) -> &'static str {
        "arriving"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let wild = history.wild.as_ref();
        if wild.is_some_and(Wild::makes_wait) {
            return Ok(());
        }
        let limits = wild.map(Wild::limits).unwrap_or_default();
        let inbound = wild.and_then(|wild| wild.inbound);
        let may_close = inbound.is_some_and(|inbound| inbound.closes);
        let end = history.epoch().last().map_or(0, |entry| entry.t);
        for (number, conn) in history.conns().filter(|(_, conn)| conn.is_upgraded()) {
            if let Some((t, since)) = kept(conn, &limits, history.grace).filter(|(t, _)| *t < end) {
                let text = format!("connection {number} sends a message since {since} us");
                return Err(Breach::new(t, text));
            }
            if let Some(t) = closed(conn).filter(|_| !may_close && !conn.has_closed())
                && !is_late(conn, &limits, t)
            {
                let text = format!("connection {number} was closed with 1008 for nothing");
                return Err(Breach::new(t, text));
            }
        }
        Ok(())
    }
}

/// When it was closed with 1008, if it was.
fn closed(conn: &Conn<'_>) -> Option<u64> {
    let (t, code) = conn.closed()?;
    (code == Some(POLICY)).then_some(t)
}

/// Whether a message was under way at `t` that may have taken longer than it may.
pub(super) fn is_late(conn: &Conn<'_>, limits: &Limits, t: u64) -> bool {
    let timeout = micros(limits);
    let is_it = |message: &Message| {
        message.whole.is_none_or(|whole| whole > t) && t >= message.earliest + timeout
    };
    messages(conn).iter().any(is_it)
}

/// By when it must have been closed, and was not, because of a message that began when.
fn kept(conn: &Conn<'_>, limits: &Limits, grace: u64) -> Option<(u64, u64)> {
    let close = u64::try_from(limits.close_timeout.as_micros()).unwrap_or(u64::MAX);
    // What is said last may be stuck.
    let grace = if conn.blocks.is_empty() {
        grace
    } else {
        grace + close
    };
    let ends = [
        conn.closed().map(|(t, _)| t),
        conn.shutdown,
        conn.failed,
        conn.dropped,
    ];
    let ended = ends.into_iter().flatten().min();
    messages(conn).iter().find_map(|message| {
        let by = message.latest? + micros(limits) + message.bytes / KIB * SECOND + grace;
        let done = message.whole.into_iter().chain(ended).min();
        done.is_none_or(|done| done > by)
            .then_some((by, message.earliest))
    })
}

fn micros(limits: &Limits) -> u64 {
    u64::try_from(limits.message_timeout.as_micros()).unwrap_or(u64::MAX)
}

/// A message that took more than one read.
struct Message {
    /// When its first byte was read.
    earliest: u64,
    /// When it had been begun to be decoded at the latest: what came before it in one read may have
    /// waited for its service.
    latest: Option<u64>,
    whole: Option<u64>,
    bytes: u64,
}

fn messages(conn: &Conn<'_>) -> Vec<Message> {
    let bytes = &conn.asked().bytes;
    let all: usize = conn.reads.iter().map(|(_, data)| data.len()).sum();
    let (head, began) = (all - bytes.len(), conn.answered().unwrap_or(0));
    let mut read = 0;
    let mut reads = Vec::with_capacity(conn.reads.len());
    for (t, data) in &conn.reads {
        let from = read;
        read += data.len();
        let of_body = |at: usize| at.saturating_sub(head);
        reads.push(((*t).max(began), of_body(from), of_body(read)));
    }
    // The first read that ends after this byte.
    let with = |at: usize| reads.partition_point(|(_, _, to)| *to <= at);
    let at = |place: usize| reads.get(place).map(|(t, ..)| *t);
    let message = |begun: Begun| {
        let place = with(begun.start);
        let whole = begun.end.and_then(|end| at(with(end - 1)));
        let is_first = reads.get(place)?.1 >= begun.start;
        Some(Message {
            earliest: at(place)?,
            latest: if is_first { at(place) } else { at(place + 1) },
            whole,
            bytes: (begun.end.unwrap_or(bytes.len()) - begun.start) as u64,
        })
    };
    let begun = begun(bytes).into_iter();
    begun.filter_map(message).collect()
}
