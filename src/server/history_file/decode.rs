//! Reads histories from bytes: all of them, or none where a single bit is wrong.

use std::time::{Duration, SystemTime};

use super::damage::Damage;
use super::format::{MAGIC, Mark, SUM, TIME, VERSION, VERSION_WITHOUT_TAGS, checksum};
use super::reader::Reader;
use crate::bus::{
    Batch, Cause, Client, ClientId, Delivery, Epoch, Generation, Maker, Message, Origin, Position,
    Saved, SavedBatch, Tags,
};
use crate::client::identity::Identity;

/// The largest offset that is believed: half of all numbers are left to count on.
const OFFSET_MAX: u64 = u64::MAX / 2;

/// Reads the histories, in the order of their last use, the oldest first, with ages of now.
///
/// `wall` is the present date and time. A clock that has gone back since the file was written
/// counts as one that stood still: no message is younger than it was. The receivers of a message
/// are no part of the file: the client that did not receive it is gone.
///
/// # Errors
///
/// When the bytes are not exactly those that were written, or were written longer than `ttl` ago.
pub(super) fn decode(bytes: &[u8], wall: SystemTime, ttl: Duration) -> Result<Vec<Saved>, Damage> {
    let mut decoder = Decoder::begin(bytes, wall)?;
    let (age, mut all) = (decoder.age, Vec::new());
    if age > ttl {
        return Err(Damage::Old { age, ttl });
    }
    loop {
        let before = bytes.len() - decoder.rest.0.len();
        let (mark, mut content) = decoder.record()?;
        if mark == Mark::History.byte() {
            all.push(decoder.history(content)?);
        } else if mark == Mark::End.byte() {
            let (histories, sum) = (content.number()?, content.number32()?);
            content.end(Damage::Content("end"))?;
            decoder.rest.end(Damage::Rest)?;
            if histories != all.len() as u64 || sum != checksum(&bytes[..before]) {
                return Err(Damage::Checksum);
            }
            all.reverse();
            return Ok(all);
        } else {
            return Err(Damage::Content("record"));
        }
    }
}

struct Decoder<'a> {
    rest: Reader<'a>,
    /// Whether the layout has tags.
    has_tags: bool,
    /// The time since the file was written.
    age: Duration,
    /// The last client that was read, with its bytes: most batches in a row are of one client.
    last: Option<(&'a [u8], Client)>,
}

impl<'a> Decoder<'a> {
    fn begin(bytes: &'a [u8], wall: SystemTime) -> Result<Self, Damage> {
        let mut rest = Reader(bytes);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(Damage::Foreign);
        }
        let version = rest.number32()?;
        let has_tags = match version {
            VERSION => true,
            VERSION_WITHOUT_TAGS => false,
            _ => return Err(Damage::Version(version)),
        };
        let mut written = Reader(rest.take(TIME)?);
        let head = &bytes[..bytes.len() - rest.0.len()];
        if rest.number32()? != checksum(head) {
            return Err(Damage::Checksum);
        }
        let age = wall.duration_since(written.time()?).unwrap_or_default();
        Ok(Self {
            rest,
            has_tags,
            age,
            last: None,
        })
    }

    /// The mark and the content of the next record, after the check of its checksum.
    fn record(&mut self) -> Result<(u8, Reader<'a>), Damage> {
        let start = self.rest.0;
        let mark = self.rest.byte()?;
        let content = self.rest.bytes()?;
        let length = start.len() - self.rest.0.len();
        let sum = Reader(self.rest.take(SUM)?).number32()?;
        if sum != checksum(&start[..length]) {
            return Err(Damage::Checksum);
        }
        Ok((mark, Reader(content)))
    }

    fn history(&mut self, mut content: Reader<'a>) -> Result<Saved, Damage> {
        let topic = content.text()?.parse();
        let position = Position {
            epoch: Epoch::from_bits(content.number()?),
            offset: content.number()?,
        };
        let mut saved = Saved {
            topic: topic.map_err(|_| Damage::Content("topic"))?,
            position,
            cause: cause(content.byte()?)?,
            maker: Maker {
                address: content.address()?,
                subject: content.option()?.map(Into::into),
            },
            is_live: false,
            unused: self.aged(content.number()?),
            batches: Vec::new(),
        };
        let batches = content.number()?;
        content.end(Damage::Content("history"))?;
        for _ in 0..batches {
            let (mark, content) = self.record()?;
            if mark != Mark::Batch.byte() {
                return Err(Damage::Content("number of batches"));
            }
            saved.batches.push(self.batch(content)?);
        }
        let mut before = saved.batches.iter().rev().skip(1);
        if before.any(|saved| saved.batch.is_end()) {
            return Err(Damage::Content("end of a stream"));
        }
        let lengths = saved.batches.iter().map(|saved| saved.batch.len() as u64);
        let count: u64 = lengths.sum();
        if position.offset > OFFSET_MAX || count > position.offset {
            return Err(Damage::Content("offset"));
        }
        Ok(saved)
    }

    fn batch(&mut self, mut content: Reader<'a>) -> Result<SavedBatch, Damage> {
        let origin = self.origin(&mut content)?;
        let tags = self.tags(&mut content)?;
        let age = self.aged(content.number()?);
        let at = content.time()?;
        let (mut messages, mut is_end) = (Vec::new(), false);
        for _ in 0..content.number()? {
            messages.push(match content.byte()? {
                0 => Message::text(content.text()?),
                1 => Message::binary(content.bytes()?),
                2 => {
                    is_end = true;
                    Message::text(content.text()?)
                }
                _ => return Err(Damage::Content("kind of message")),
            });
        }
        content.end(Damage::Content("batch"))?;
        let batch = Batch::join(messages).ok_or(Damage::Content("number of messages"))?;
        let mut batch = batch.from_origin(origin);
        if let Some(tags) = tags {
            batch = batch.tagged(tags);
        }
        if is_end && batch.len() > 1 {
            return Err(Damage::Content("end of a stream"));
        } else if is_end {
            batch = batch.delivered(Delivery::End);
        }
        Ok(SavedBatch { batch, age, at })
    }

    fn origin(&mut self, content: &mut Reader<'a>) -> Result<Origin, Damage> {
        match content.byte()? {
            0 => Ok(Origin::Unknown),
            1 => Ok(Origin::Service(Generation::new(content.number()?))),
            2 => Ok(Origin::Client(self.client(content)?)),
            _ => Err(Damage::Content("sender")),
        }
    }

    fn tags(&self, content: &mut Reader<'a>) -> Result<Option<Tags>, Damage> {
        if !self.has_tags {
            return Ok(None);
        }
        let tags = content.option()?.map(str::parse).transpose();
        tags.map_err(|_| Damage::Content("tags"))
    }

    fn client(&mut self, content: &mut Reader<'a>) -> Result<Client, Damage> {
        let start = content.0;
        let (id, topic, subject) = (content.number()?, content.text()?, content.option()?);
        let bytes = &start[..start.len() - content.0.len()];
        if let Some((last, client)) = &self.last
            && *last == bytes
        {
            return Ok(client.clone());
        }
        let identity = Identity {
            subject: subject.map(Into::into),
            ..Identity::default()
        };
        let topic = topic.parse().map_err(|_| Damage::Content("topic"))?;
        let client = Client::new(ClientId::new(id), identity, topic);
        self.last = Some((bytes, client.clone()));
        Ok(client)
    }

    /// An age of now, of one in milliseconds at the time of writing.
    fn aged(&self, millis: u64) -> Duration {
        Duration::from_millis(millis).saturating_add(self.age)
    }
}

fn cause(byte: u8) -> Result<Cause, Damage> {
    match byte {
        0 => Ok(Cause::Evicted),
        1 => Ok(Cause::Expired),
        2 => Ok(Cause::Removed),
        _ => Err(Damage::Content("cause")),
    }
}
