//! The server's connections, as its sockets saw them.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::wild::crashes;
use crate::frames::{Frames, Seen};
use crate::inbound;
use crate::speech::Speech;
use crate::trace::{Entry, Event};

/// One accepted connection. All times are microseconds.
#[derive(Default)]
pub(super) struct Conn<'a> {
    /// The number of the first event.
    pub(super) first: u64,
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
    /// Read once, for all checkers.
    said: OnceCell<Said>,
    asked: OnceCell<Asked>,
}

/// What a server has said on a connection.
pub(super) struct Said {
    /// When something was seen as a whole, and what, up to the first rule that was broken.
    pub(super) seen: Vec<(u64, Seen)>,
    /// That rule.
    pub(super) broken: Option<String>,
    /// Bytes after the head of the response.
    pub(super) bytes: u64,
    /// How it is to be said.
    pub(super) speech: Speech,
}

/// What was read.
pub(super) struct Asked {
    /// The request, in however many parts it came.
    head: String,
    /// What followed it.
    pub(super) bytes: Vec<u8>,
    /// How many of them came before the last read.
    pub(super) before: usize,
}

/// All connections, by number: no two servers of a run have one with the same.
pub(super) fn conns(entries: &[Entry]) -> BTreeMap<u32, Conn<'_>> {
    let mut conns: BTreeMap<u32, Conn<'_>> = BTreeMap::new();
    for Entry { t, n, event } in entries {
        let Some((number, change)) = change(event) else {
            continue;
        };
        let begin = || Conn {
            first: *n,
            ..Conn::default()
        };
        change.apply(*t, conns.entry(number).or_insert_with(begin));
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
        concat(&self.writes)
    }

    /// The status of the response, as far as one was written; of a refusal by name, the status that
    /// others get for it.
    pub(super) fn status(&self) -> Option<u16> {
        let status = self.written_status()?;
        Some(self.refused_by_name().unwrap_or(status))
    }

    /// The status of a refusal by name.
    pub(super) fn refused_by_name(&self) -> Option<u16> {
        if self.written_status() != Some(101) {
            return None;
        }
        match self.said().seen.get(1) {
            Some((_, Seen::Head(status))) => Some(*status),
            _ => None,
        }
    }

    /// Whether it may be that of a client that is refused by name, and gone before it is told.
    pub(super) fn may_be_refused(&self) -> bool {
        let said = self.said();
        match said.seen.len() {
            // The head is not there as a whole.
            0 => self.written_status() == Some(101),
            1 => said.speech.json,
            _ => false,
        }
    }

    fn written_status(&self) -> Option<u16> {
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

    /// What the server has said.
    pub(super) fn said(&self) -> &Said {
        self.said.get_or_init(|| self.listen())
    }

    fn listen(&self) -> Said {
        let mut said = Said {
            seen: Vec::new(),
            broken: None,
            bytes: 0,
            speech: Speech::default(),
        };
        let mut frames = Frames::default();
        for (t, data) in &self.writes {
            frames.push(data);
            while said.broken.is_none() {
                match frames.next() {
                    Ok(Some(one)) => said.seen.push((*t, one)),
                    Ok(None) => break,
                    Err(rule) => said.broken = Some(rule),
                }
            }
        }
        let written: usize = self.writes.iter().map(|(_, data)| data.len()).sum();
        let head = head_end(&self.writes).unwrap_or(written);
        said.bytes = (written - head) as u64;
        said.speech = frames.speech();
        said
    }

    /// The close frame of a session: when it was written as a whole, and its code.
    pub(super) fn closed(&self) -> Option<(u64, Option<u16>)> {
        let is_session = self.refused_by_name().is_none();
        self.close_frame().filter(|_| is_session)
    }

    /// The server's close frame: when it was written as a whole, and its code.
    pub(super) fn close_frame(&self) -> Option<(u64, Option<u16>)> {
        self.said().seen.iter().find_map(|(t, seen)| match seen {
            Seen::Close(code) => Some((*t, *code)),
            Seen::Binary(_)
            | Seen::Fact(_)
            | Seen::Head(_)
            | Seen::Notice(_)
            | Seen::Ping(_)
            | Seen::Placed(_)
            | Seen::Pong
            | Seen::Text(_) => None,
        })
    }

    /// Whether a close frame of the client was read.
    pub(super) fn has_closed(&self) -> bool {
        inbound::has_close(&self.asked().bytes)
    }

    /// Whether it is for this service.
    pub(super) fn is_of(&self, service: &str) -> bool {
        self.path() == Some(service)
    }

    /// Whether it is for a service or a room that crashes, dozes and overstays when it is told to.
    pub(super) fn may_crash(&self) -> bool {
        self.path().is_some_and(crashes)
    }

    /// The path below `/ws/` that was asked for.
    pub(super) fn path(&self) -> Option<&str> {
        self.target()?.split('?').next()
    }

    /// The query of the request.
    pub(super) fn query(&self) -> Option<&str> {
        self.target()?.split_once('?').map(|(_, query)| query)
    }

    fn target(&self) -> Option<&str> {
        let (_, target) = self.asked().head.split_once("/ws/")?;
        target.split(' ').next()
    }

    /// Whether it is, or begins like, that of a backend: no client sends a POST.
    pub(super) fn is_call(&self) -> bool {
        let first = self.reads.first();
        first.is_some_and(|(_, data)| data.first() == Some(&b'P'))
    }

    /// When the byte before this one of those after the request was read.
    pub(super) fn read_by(&self, end: usize) -> u64 {
        let whole = self.asked().head.len() + end;
        let mut read = 0;
        let mut reads = self.reads.iter();
        let last = reads.find(|(_, data)| {
            read += data.len();
            read >= whole
        });
        last.map_or(u64::MAX, |(t, _)| *t)
    }

    /// When the whole request was read.
    pub(super) fn requested(&self) -> Option<u64> {
        let head = self.asked().head.len();
        let mut read = 0;
        let mut reads = self.reads.iter();
        let last = reads.find(|(_, data)| {
            read += data.len();
            read >= head
        });
        last.map(|(t, _)| *t)
    }

    /// What was read.
    pub(super) fn asked(&self) -> &Asked {
        self.asked.get_or_init(|| {
            let mut bytes = concat(&self.reads);
            let last = self.reads.last().map_or(0, |(_, data)| data.len());
            let head = head_end(&self.reads).unwrap_or(bytes.len());
            let rest = bytes.split_off(head);
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let bytes = rest;
            let before = bytes.len().saturating_sub(last);
            Asked {
                head,
                bytes,
                before,
            }
        })
    }
}

fn concat(parts: &[(u64, &[u8])]) -> Vec<u8> {
    let parts: Vec<_> = parts.iter().map(|(_, data)| *data).collect();
    parts.concat()
}

/// Where the head of a request or a response ends.
fn head_end(parts: &[(u64, &[u8])]) -> Option<usize> {
    const END: u32 = u32::from_be_bytes(*b"\r\n\r\n");
    let mut last = 0;
    let bytes = parts.iter().flat_map(|(_, data)| data.iter());
    let end = bytes.copied().position(|byte| {
        last = last << 8 | u32::from(byte);
        last == END
    });
    end.map(|end| end + 1)
}
