//! The server's connections, as its sockets saw them.

use std::collections::BTreeMap;

use crate::frames::{Frames, Seen};
use crate::trace::{Entry, Event};

/// One accepted connection. All times are microseconds.
#[derive(Default)]
pub(super) struct Conn<'a> {
    pub(super) accepted: u64,
    /// What was read while the connection was of use, with the time.
    pub(super) reads: Vec<(u64, &'a [u8])>,
    /// What was written, with the time.
    pub(super) writes: Vec<(u64, &'a [u8])>,
    /// When the socket began to take nothing, and when it took something again.
    pub(super) blocks: Vec<(u64, Option<u64>)>,
    /// When the server ended its side.
    pub(super) shutdown: Option<u64>,
    /// When an operation failed first.
    pub(super) failed: Option<u64>,
    pub(super) dropped: Option<u64>,
}

/// What a server has said on a connection.
pub(super) struct Said {
    /// When something was seen as a whole, and what.
    pub(super) seen: Vec<(u64, Seen)>,
    /// Bytes after the head of the response.
    pub(super) bytes: u64,
}

/// The connections that were accepted in this time, by number.
pub(super) fn conns(entries: &[Entry]) -> BTreeMap<u32, Conn<'_>> {
    let mut conns: BTreeMap<u32, Conn<'_>> = BTreeMap::new();
    for Entry { t, event, .. } in entries {
        let Some((number, change)) = change(event) else {
            continue;
        };
        change.apply(*t, conns.entry(number).or_default());
    }
    conns
}

enum Change<'a> {
    Accepted,
    Blocked,
    Dropped,
    Failed,
    Read(&'a [u8]),
    Shutdown,
    Written(&'a [u8]),
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other events are not of sockets"
)]
fn change(event: &Event) -> Option<(u32, Change<'_>)> {
    Some(match event {
        Event::Accepted { conn, .. } => (*conn, Change::Accepted),
        Event::Blocked { conn } => (*conn, Change::Blocked),
        Event::Dropped { conn } => (*conn, Change::Dropped),
        Event::Failed { conn, .. } => (*conn, Change::Failed),
        Event::Read { conn, data, .. } => (*conn, Change::Read(data)),
        Event::Shutdown { conn } => (*conn, Change::Shutdown),
        Event::Written { conn, data, .. } => (*conn, Change::Written(data)),
        _ => return None,
    })
}

impl<'a> Change<'a> {
    fn apply(self, t: u64, conn: &mut Conn<'a>) {
        match self {
            Self::Accepted => conn.accepted = t,
            Self::Blocked => conn.blocks.push((t, None)),
            Self::Dropped => conn.dropped = Some(t),
            Self::Failed => conn.failed = conn.failed.or(Some(t)),
            // What is read after the end of the server's side is thrown away.
            Self::Read(_) if conn.shutdown.is_some() => {}
            Self::Read(data) => conn.reads.push((t, data)),
            Self::Shutdown => conn.shutdown = conn.shutdown.or(Some(t)),
            Self::Written(data) => {
                if let Some((_, end @ None)) = conn.blocks.last_mut() {
                    *end = Some(t);
                }
                conn.writes.push((t, data));
            }
        }
    }
}

impl Conn<'_> {
    /// Everything that was written.
    pub(super) fn written(&self) -> Vec<u8> {
        let parts: Vec<_> = self.writes.iter().map(|(_, data)| *data).collect();
        parts.concat()
    }

    /// The status of the response, as far as one was written.
    pub(super) fn status(&self) -> Option<u16> {
        const PREFIX: &[u8] = b"HTTP/1.1 ";
        let written = self
            .writes
            .iter()
            .flat_map(|(_, data)| data.iter().copied());
        let start: Vec<u8> = written.take(PREFIX.len() + 3).collect();
        let digits = start.strip_prefix(PREFIX)?.get(..3)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Whether it became a WebSocket.
    pub(super) fn is_upgraded(&self) -> bool {
        self.status() == Some(101)
    }

    /// When the first byte was written.
    pub(super) fn answered(&self) -> Option<u64> {
        self.writes.first().map(|(t, _)| *t)
    }

    /// What the server has said, up to the first rule it broke.
    pub(super) fn said(&self) -> Said {
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for (t, data) in &self.writes {
            frames.push(data);
            while let Ok(Some(one)) = frames.next() {
                seen.push((*t, one));
            }
        }
        let written = self.written();
        let head = head_end(&written).unwrap_or(written.len());
        let bytes = (written.len() - head) as u64;
        Said { seen, bytes }
    }

    /// The server's close frame: when it was written as a whole, and its code.
    pub(super) fn closed(&self) -> Option<(u64, Option<u16>)> {
        let seen = self.said().seen;
        seen.into_iter().find_map(|(t, seen)| match seen {
            Seen::Close(code) => Some((t, code)),
            Seen::Binary(_) | Seen::Head(_) | Seen::Ping(_) | Seen::Pong | Seen::Text(_) => None,
        })
    }

    /// What was read after the request, with and without the last read.
    pub(super) fn asked(&self) -> (Vec<u8>, Vec<u8>) {
        let part = |count: usize| {
            let reads = self.reads.iter().take(count);
            let bytes = reads.map(|(_, data)| *data).collect::<Vec<_>>().concat();
            let head = head_end(&bytes).unwrap_or(bytes.len());
            bytes[head..].to_vec()
        };
        (
            part(self.reads.len()),
            part(self.reads.len().saturating_sub(1)),
        )
    }
}

/// Where the head of a request or a response ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    Some(end + 4)
}
