//! Rates: who sends more than it may waits or is closed, and nobody else.

use super::arriving;
use super::conns::Conn;
use super::{Breach, Checker, History};
use crate::frames::Seen;
use crate::inbound::inbound;
use crate::wild::{Inbound, Pace, Wild};

/// Where more than a client may send closes its session, that is closed with 1008 by the first
/// message, or the first read, that is too much, and no other one is. Where the client waits, no
/// more of its bytes are read than may be, and `echo` answers no more of its messages.
///
/// Judged are connections on which nothing else holds a session up: their sockets take what is
/// written, and their service takes messages at once.
pub struct Rates;

/// RFC 6455 7.4.1: a policy was broken.
const POLICY: u16 = 1008;

impl Checker for Rates {
    fn name(&self) -> &'static str {
        "rates"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some((wild, inbound)) = history
            .wild
            .as_ref()
            .and_then(|wild| Some((wild, wild.inbound?)))
        else {
            return Ok(());
        };
        for (number, conn) in history.conns() {
            if !conn.is_upgraded() || !conn.blocks.is_empty() {
                continue;
            }
            let judged = Judged {
                conn,
                wild,
                inbound,
                grace: history.grace,
            };
            let found = if inbound.closes {
                judged.closed()
            } else {
                judged.waits()
            };
            found.map_err(|(t, text)| Breach::new(t, format!("connection {number} {text}")))?;
        }
        Ok(())
    }
}

/// A bucket of tokens, in millionths of one.
struct Bucket {
    pace: Pace,
    tokens: u64,
    at: u64,
}

const ONE: u64 = 1_000_000;

impl Bucket {
    /// One that is full, and holds what comes in `grace` microseconds on top.
    fn new(pace: Pace, at: u64, grace: u64) -> Self {
        let tokens = pace.burst * ONE + grace * pace.per_second;
        Self { pace, tokens, at }
    }

    /// Whether there were so many.
    fn take(&mut self, t: u64, count: u64, grace: u64) -> bool {
        let most = self.pace.burst * ONE + grace * self.pace.per_second;
        let came = (t - self.at) * self.pace.per_second;
        self.tokens = (self.tokens + came).min(most);
        self.at = t;
        let left = self.tokens.checked_sub(count * ONE);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}

struct Judged<'a, 'b> {
    conn: &'a Conn<'b>,
    wild: &'a Wild,
    inbound: Inbound,
    grace: u64,
}

type Found = Result<(), (u64, String)>;

impl Judged<'_, '_> {
    /// When the session began.
    fn began(&self) -> u64 {
        self.conn.answered().unwrap_or(0)
    }

    /// Bytes read in a session, and messages that are whole with them, by the read.
    fn reads(&self) -> Vec<(u64, u64, u64)> {
        let asked = self.conn.asked();
        let speech = self.conn.said().speech;
        let all: usize = self.conn.reads.iter().map(|(_, data)| data.len()).sum();
        let head = all - asked.bytes.len();
        let wholes = inbound(&asked.bytes, self.wild.message_bytes, speech);
        let (mut read, mut taken, mut found) = (0, 0, Vec::new());
        for (t, data) in &self.conn.reads {
            let before = read;
            read += data.len();
            if read <= head {
                continue;
            }
            let bytes = read - before.max(head);
            let whole = wholes.partition_point(|whole| head + whole.end <= read);
            found.push(((*t).max(self.began()), bytes as u64, (whole - taken) as u64));
            taken = whole;
        }
        found
    }

    /// The first read that is too much, if the bucket is never fuller than by `grace`.
    fn first_over(&self, grace: u64) -> Option<u64> {
        let began = self.began();
        let bucket = |pace| Bucket::new(pace, began, grace);
        let mut bytes = self.inbound.bytes.map(bucket);
        let mut messages = self.inbound.messages.map(bucket);
        for (t, read, whole) in self.reads() {
            let fits = bytes.as_mut().is_none_or(|b| b.take(t, read, grace));
            let mut each =
                (0..whole).map(|_| messages.as_mut().is_none_or(|m| m.take(t, 1, grace)));
            if !fits || !each.all(|is_within| is_within) {
                return Some(t);
            }
        }
        None
    }

    fn closed(&self) -> Found {
        if self.conn.may_crash() {
            // What it has not taken holds up what follows, which then comes all at once.
            return Ok(());
        }
        let told = self.conn.closed().filter(|(_, code)| *code == Some(POLICY));
        let may = self.first_over(0);
        if let Some((t, _)) = told
            && may.is_none_or(|over| over > t)
            && !arriving::is_late(self.conn, &self.wild.limits(), t)
        {
            return Err((
                t,
                "was closed for its rate, and had not reached it".to_owned(),
            ));
        }
        let Some(over) = self.first_over(self.grace) else {
            return Ok(());
        };
        let by = over + self.grace;
        let ends = [
            self.conn.closed().map(|(t, _)| t),
            self.conn.shutdown,
            self.conn.failed,
            self.conn.dropped,
        ];
        if ends.into_iter().flatten().any(|t| t <= by) {
            return Ok(());
        }
        Err((
            by,
            "has sent more than it may, and is not closed".to_owned(),
        ))
    }

    fn waits(&self) -> Found {
        let began = self.began();
        // A session that closes reads whatever comes.
        let ends = [
            self.conn.closed().map(|(t, _)| t),
            self.conn.shutdown,
            self.conn.failed,
        ];
        let end = ends.into_iter().flatten().min().unwrap_or(u64::MAX);
        if let Some(pace) = self.inbound.bytes {
            let mut bucket = Bucket::new(pace, began, self.grace);
            let reads = self
                .reads()
                .into_iter()
                .filter(|(t, ..)| *t > began && *t < end);
            for (t, bytes, _) in reads {
                if !bucket.take(t, bytes, self.grace) {
                    return Err((
                        t,
                        format!("was read faster than {} bytes a second", pace.per_second),
                    ));
                }
            }
        }
        if let Some(pace) = self.inbound.messages.filter(|_| self.conn.is_of("echo")) {
            let mut bucket = Bucket::new(pace, began, self.grace);
            let said = self.conn.said().seen.iter();
            let answers = said.filter(|(_, seen)| {
                matches!(seen, Seen::Text(_) | Seen::Binary(_) | Seen::Placed(_))
            });
            for (t, _) in answers {
                if !bucket.take(*t, 1, self.grace) {
                    let text = format!(
                        "was heard faster than {} messages a second",
                        pace.per_second
                    );
                    return Err((*t, text));
                }
            }
        }
        Ok(())
    }
}
