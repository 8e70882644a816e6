//! Writes histories as bytes, as far as the bounds allow.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use flate2::Crc;

use super::format::{END, HEAD, MAGIC, Mark, RECORD_HEAD, SUM, TIME, VERSION, checksum};
use crate::bus::{Cause, Maker, Origin, Saved, SavedBatch, Tags};
use crate::wire::DataKind;

/// The bounds of a file that is written.
pub(super) struct Bounds<'a> {
    /// The most bytes.
    pub(super) bytes: u64,
    /// Says whether it is too late to begin a further history.
    pub(super) is_late: &'a mut dyn FnMut() -> bool,
}

/// The outcome of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    /// The histories that were written.
    pub(super) histories: usize,
    /// The histories that did not fit, each left out as a whole.
    pub(super) left_out: usize,
    /// The bytes that were written.
    pub(super) bytes: u64,
}

/// Writes the histories, which are in the order of their last use, the oldest first.
///
/// # Errors
///
/// The errors of the output; a part may be written.
pub(super) fn encode(
    all: &[Saved],
    wall: SystemTime,
    output: &mut impl Write,
    bounds: Bounds<'_>,
) -> io::Result<Encoded> {
    let mut file = Encoder::begin(output, wall)?;
    let mut encoded = Encoded::default();
    for saved in all.iter().rev() {
        let bytes = size(saved);
        let fits = file.bytes + bytes + END as u64 <= bounds.bytes;
        if fits && !(bounds.is_late)() {
            file.history(saved)?;
            encoded.histories += 1;
        } else {
            encoded.left_out += 1;
        }
    }
    encoded.bytes = file.end(encoded.histories)?;
    Ok(encoded)
}

/// The bytes that a history takes in the file.
fn size(saved: &Saved) -> u64 {
    let mut bytes = record(history_size(saved));
    for batch in &saved.batches {
        bytes += record(batch_size(batch));
    }
    bytes as u64
}

fn record(content: usize) -> usize {
    RECORD_HEAD + content + SUM
}

fn history_size(saved: &Saved) -> usize {
    let topic = saved.topic.to_string();
    let address = match saved.maker.address {
        None => 1,
        Some(IpAddr::V4(_)) => 5,
        Some(IpAddr::V6(_)) => 17,
    };
    let subject = saved.maker.subject.as_deref();
    text_size(&topic) + 8 + 8 + 1 + address + option_size(subject) + 8 + 8
}

fn batch_size(saved: &SavedBatch) -> usize {
    let origin = match saved.batch.origin() {
        Origin::Unknown => 1,
        Origin::Service(_) => 9,
        Origin::Client(client) => {
            9 + text_size(&client.topic().to_string()) + option_size(client.subject())
        }
    };
    let payloads = saved.batch.frames().payload_bytes();
    let tags = option_size(saved.batch.tags().map(Tags::as_json));
    origin + tags + 8 + TIME + 8 + saved.batch.len() * 9 + payloads
}

fn text_size(text: &str) -> usize {
    8 + text.len()
}

fn option_size(text: Option<&str>) -> usize {
    1 + text.map_or(0, text_size)
}

/// Milliseconds, rounded up: an age never shrinks.
fn millis_up(time: Duration) -> u64 {
    let millis = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// A file that is being written.
struct Encoder<'a, W> {
    output: &'a mut W,
    /// The checksum of all bytes so far.
    sum: Crc,
    bytes: u64,
    /// The content of the record that is being written.
    record: Vec<u8>,
}

impl<'a, W: Write> Encoder<'a, W> {
    fn begin(output: &'a mut W, wall: SystemTime) -> io::Result<Self> {
        let mut file = Self {
            output,
            sum: Crc::new(),
            bytes: 0,
            record: Vec::with_capacity(HEAD),
        };
        file.record.extend(MAGIC);
        file.record.extend(VERSION.to_le_bytes());
        file.time(wall);
        file.write()?;
        Ok(file)
    }

    fn history(&mut self, saved: &Saved) -> io::Result<()> {
        self.start(Mark::History, history_size(saved));
        self.text(&saved.topic.to_string());
        self.number(saved.position.epoch.bits());
        self.number(saved.position.offset);
        self.record.push(match saved.cause {
            Cause::Evicted => 0,
            Cause::Expired => 1,
            Cause::Removed => 2,
        });
        self.maker(&saved.maker);
        self.number(millis_up(saved.unused));
        self.number(saved.batches.len() as u64);
        self.write()?;
        saved.batches.iter().try_for_each(|batch| self.batch(batch))
    }

    fn batch(&mut self, saved: &SavedBatch) -> io::Result<()> {
        self.start(Mark::Batch, batch_size(saved));
        self.origin(saved.batch.origin());
        self.option(saved.batch.tags().map(Tags::as_json));
        self.number(millis_up(saved.age));
        self.time(saved.at);
        self.number(saved.batch.len() as u64);
        for part in saved.batch.frames().parts() {
            self.record.push(match part.kind {
                DataKind::Text if saved.batch.is_end() => 2,
                DataKind::Text => 0,
                DataKind::Binary => 1,
            });
            self.number(part.payload.len() as u64);
            self.record.extend(part.payload);
        }
        self.write()
    }

    fn end(mut self, histories: usize) -> io::Result<u64> {
        let whole = self.sum.sum();
        self.start(Mark::End, END - RECORD_HEAD - SUM);
        self.number(histories as u64);
        self.record.extend(whole.to_le_bytes());
        self.write()?;
        Ok(self.bytes)
    }

    fn start(&mut self, mark: Mark, content: usize) {
        self.record.push(mark.byte());
        self.number(content as u64);
    }

    /// Writes the record with its checksum, and begins the next one.
    fn write(&mut self) -> io::Result<()> {
        let sum = checksum(&self.record);
        self.record.extend(sum.to_le_bytes());
        self.sum.update(&self.record);
        self.bytes += self.record.len() as u64;
        self.output.write_all(&self.record)?;
        self.record.clear();
        Ok(())
    }

    fn origin(&mut self, origin: &Origin) {
        match origin {
            Origin::Unknown => self.record.push(0),
            Origin::Service(generation) => {
                self.record.push(1);
                self.number(generation.number());
            }
            Origin::Client(client) => {
                self.record.push(2);
                self.number(client.id().number());
                self.text(&client.topic().to_string());
                self.option(client.subject());
            }
        }
    }

    fn maker(&mut self, maker: &Maker) {
        match maker.address {
            None => self.record.push(0),
            Some(IpAddr::V4(address)) => {
                self.record.push(4);
                self.record.extend(address.octets());
            }
            Some(IpAddr::V6(address)) => {
                self.record.push(6);
                self.record.extend(address.octets());
            }
        }
        self.option(maker.subject.as_deref());
    }

    fn number(&mut self, number: u64) {
        self.record.extend(number.to_le_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.record.push(text.is_some().into());
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.record.extend(text.as_bytes());
    }

    /// A date and time; times before 1970 count as its beginning.
    fn time(&mut self, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        self.number(since.as_secs());
        self.record.extend(since.subsec_nanos().to_le_bytes());
    }
}
