//! A client of bytes: what a polite library would not do, and reads only when it likes to.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::client::{PATIENCE, RETRY};
use crate::frames::{Frames, Seen, masked};
use crate::net::{Dial, Wire};
use crate::places::{Places, Wish};
use crate::plan::{Script, Step};
use crate::rooms::asked;
use crate::speech::{Speech, deflated};
use crate::trace::{Digest, Ending, Event, Recorder};
use crate::wild::{Deed, Head, Offence};

/// Opcodes of RFC 6455 5.2 with the bit of a final frame.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Of a compressed message: RFC 7692 6.
const RSV1: u8 = 0x40;

/// Longer than any message a wild plan allows.
const TOO_LONG: usize = 70_000;

/// Does what the script says, from the connection to its end.
pub(crate) async fn run(script: Script, dial: impl Dial, recorder: Recorder, places: Places) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the host, which is virtual"
    )]
    let beginning = Instant::now();
    sleep_until(beginning + script.start).await;
    let around = Around { recorder, places };
    for _ in 0..script.attempts() {
        let outcome = attempt(&script, &dial, &around, beginning).await;
        let client = script.client;
        match outcome {
            Ok(ending) => return around.recorder.record(Event::Ended { client, ending }),
            Err(reason) => around.recorder.record(Event::Refused { client, reason }),
        }
        sleep(RETRY).await;
    }
}

/// What all clients share; clones are the same.
#[derive(Clone)]
struct Around {
    recorder: Recorder,
    places: Places,
}

/// One connection; the error is why it came to none.
async fn attempt(
    script: &Script,
    dial: &impl Dial,
    around: &Around,
    beginning: Instant,
) -> Result<Ending, String> {
    let recorder = &around.recorder;
    recorder.record(script.connecting());
    let client = script.client;
    let dialled = timeout(PATIENCE, dial.dial(client)).await;
    let io = dialled
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the host, which is virtual"
    )]
    let now = Instant::now();
    if let Some((at, Step::Act(deed))) = first(script)
        && matches!(
            deed,
            Deed::Opening { .. }
                | Deed::Offend {
                    offence: Offence::BadHandshake
                }
        )
        && *at == script.start
    {
        let deed = deed.clone();
        recorder.record(Event::Did { client, deed });
    }
    for deed in script.steps.iter().filter_map(|(_, step)| asks(step)) {
        let deed = deed.clone();
        recorder.record(Event::Did { client, deed });
    }
    let (out, writes) = opening(script, &around.places);
    let raw = Raw {
        client,
        io,
        around: around.clone(),
        frames: Frames::default(),
        out: out.into(),
        reads: Reads::Yes,
        writes,
        pause: Pause::default(),
        status: None,
        ending: Ending::Broken,
    };
    let steps = script.steps.iter().cloned();
    let steps = steps.map(|(at, step)| (beginning + at, step));
    // Of a later attempt what is not too late; of the first one everything.
    let is_due = |(at, _): &(Instant, Step)| !script.again || *at >= now;
    let (ending, status) = raw.follow(steps.filter(is_due), now + PATIENCE).await;
    match status {
        Some(101) => Ok(ending),
        status => Err(format!("status {status:?}")),
    }
}

/// What it asks for in its request, if it does.
fn asks(step: &Step) -> Option<&Deed> {
    match step {
        Step::Act(deed @ (Deed::Speak { .. } | Deed::Wish { .. })) => Some(deed),
        Step::Abort | Step::Act(_) | Step::Leave(_) | Step::Text(_) => None,
    }
}

/// What it does first, beside asking for something.
fn first(script: &Script) -> Option<&(Duration, Step)> {
    script.steps.iter().find(|(_, step)| asks(step).is_none())
}

/// How it is to be written to, and the path and query of its request.
fn asked_for(script: &Script, places: &Places) -> (Speech, String) {
    let mut speech = Speech::default();
    let mut path = asked(&script.service, script.client);
    for deed in script.steps.iter().filter_map(|(_, step)| asks(step)) {
        if let Deed::Speak { json, deflate } = *deed {
            speech = Speech { json, deflate };
        }
        if let Deed::Wish { shows, ahead, last } = *deed {
            let wish = Wish { shows, ahead, last };
            path = places.wishing(script.client, &script.service, &wish);
        }
    }
    (speech, path)
}

/// What it sends first, and in which way.
fn opening(script: &Script, places: &Places) -> (Vec<u8>, Writes) {
    let (speech, path) = asked_for(script, places);
    let head = |key| {
        format!(
            "GET /ws/{path} HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}{}\r\n",
            speech.request()
        )
        .into_bytes()
    };
    let request = || head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    let first = first(script).filter(|(at, _)| *at == script.start);
    match first {
        Some((_, Step::Act(Deed::Opening { head }))) => match head {
            Head::Garbage => (
                b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec(),
                Writes::Whole,
            ),
            Head::Half => (request()[..60].to_vec(), Writes::Whole),
            Head::Slow => (request(), Writes::Slowly),
        },
        Some((_, Step::Act(Deed::Offend { offence }))) if *offence == Offence::BadHandshake => {
            (head(""), Writes::Whole)
        }
        Some(_) | None => (request(), Writes::Whole),
    }
}

struct Raw<Io> {
    client: u32,
    io: Io,
    around: Around,
    frames: Frames,
    /// To be written.
    out: VecDeque<u8>,
    reads: Reads,
    writes: Writes,
    pause: Pause,
    /// Of the response.
    status: Option<u16>,
    /// How it ends if the connection does.
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    No,
    /// So many bytes a second.
    Sips(u64),
    Yes,
}

/// Until when a client that is slow on purpose does nothing in a direction.
#[derive(Default)]
struct Pause {
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

/// Whether the pause is over; parks the task while it is not.
fn poll_pause(pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = pause {
        ready!(sleep.as_mut().poll(cx));
        *pause = None;
    }
    Poll::Ready(())
}

/// Between the bytes of a slow request.
const SLOW: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// One byte at a time.
    Bytes,
    /// The end, once everything is written.
    End,
    Ended,
    /// One byte at a time, and then a pause.
    Slowly,
    Whole,
}

impl<Io: Wire> Raw<Io> {
    /// Takes the steps at their times; reads and writes in between.
    async fn follow(
        mut self,
        steps: impl Iterator<Item = (Instant, Step)>,
        patience: Instant,
    ) -> (Ending, Option<u16>) {
        let mut last = patience;
        for (at, step) in steps {
            last = last.max(at);
            if self.talk_until(at).await.is_err() {
                return (self.ending, self.status);
            }
            match step {
                Step::Abort => return (Ending::Aborted, self.status),
                Step::Act(Deed::Reset) => {
                    self.did(Deed::Reset);
                    self.io.reset();
                    return (Ending::Aborted, self.status);
                }
                Step::Act(Deed::Vanish) => {
                    self.did(Deed::Vanish);
                    if let Some(kept) = self.io.vanish() {
                        // To the end of the run.
                        std::future::pending::<()>().await;
                        drop(kept);
                    }
                    return (Ending::Aborted, self.status);
                }
                Step::Act(Deed::Speak { .. } | Deed::Wish { .. }) => {}
                // Nothing is said before the upgrade, and nothing after a close frame.
                _ if self.status != Some(101) || self.ending == Ending::Closed => {}
                Step::Leave(code) => {
                    let client = self.client;
                    self.around.recorder.record(Event::Leaving { client, code });
                    self.out.extend(masked(CLOSE, &code.to_be_bytes()));
                    self.ending = Ending::Closed;
                }
                Step::Act(deed) => self.act(deed),
                Step::Text(text) => {
                    self.text(text);
                }
            }
        }
        match self.talk_until(last + PATIENCE).await {
            Ok(()) => (Ending::GaveUp, self.status),
            Err(()) => (self.ending, self.status),
        }
    }

    fn did(&self, deed: Deed) {
        let client = self.client;
        self.around.recorder.record(Event::Did { client, deed });
    }

    fn sent(&self, text: String) {
        let client = self.client;
        self.around.recorder.record(Event::Sent { client, text });
    }

    /// The first byte and the payload of a message, as was agreed on.
    fn encoded(&self, first: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
        if self.frames.speech().deflate {
            return (first | RSV1, deflated(&payload));
        }
        (first, payload)
    }

    /// Sends a text as it is.
    fn put(&mut self, text: String) {
        let (first, payload) = self.encoded(TEXT, text.into_bytes());
        self.out.extend(masked(first, &payload));
    }

    fn text(&mut self, text: String) {
        self.put(self.frames.speech().envelope(&text));
        self.sent(text);
    }

    fn act(&mut self, deed: Deed) {
        self.did(deed.clone());
        match deed {
            Deed::Binary { bytes } => {
                let (first, payload) = self.encoded(BINARY, vec![self.client as u8; bytes]);
                self.out.extend(masked(first, &payload));
            }
            Deed::Fragments { text, bytes } => {
                let envelope = self.frames.speech().envelope(&text);
                let (first, payload) = self.encoded(TEXT, envelope.into_bytes());
                let mut first = first & 0x7f;
                for part in payload.chunks(bytes.max(1)) {
                    self.out.extend(masked(first, part));
                    self.out.extend(masked(PING, b"between"));
                    first = 0;
                }
                self.out.extend(masked(0x80, b""));
                self.sent(text);
            }
            Deed::Flood { pings } => {
                for _ in 0..pings {
                    self.out.extend(masked(PING, b"flood"));
                }
            }
            Deed::HalfClose => self.writes = Writes::End,
            Deed::Offend { offence } => self.offend(offence),
            Deed::Partial => {
                let frame = masked(TEXT, b"never finished");
                self.out.extend(&frame[..frame.len() - 3]);
            }
            Deed::Ping => self.out.extend(masked(PING, b"?")),
            Deed::Read { id } if self.frames.speech().json => {
                self.put(format!("{{\"id\":{id},\"history\":{{\"limit\":1000}}}}"));
            }
            Deed::Resume => self.reads = Reads::Yes,
            Deed::Sip { bytes_per_second } => self.reads = Reads::Sips(bytes_per_second.max(1)),
            Deed::Stop => self.reads = Reads::No,
            Deed::Tell { id, text } => {
                self.put(self.frames.speech().telling(id, &text));
                self.sent(text);
            }
            Deed::Trickle { text } => {
                self.text(text);
                if self.writes == Writes::Whole {
                    self.writes = Writes::Bytes;
                }
            }
            Deed::Ask { id, method } => {
                let request = self.frames.speech().request_to(self.client, id, &method);
                self.put(request);
            }
            // Taken care of by the caller, or before.
            Deed::Opening { .. }
            | Deed::Read { .. }
            | Deed::Reset
            | Deed::Speak { .. }
            | Deed::Vanish
            | Deed::Wish { .. } => {}
        }
    }

    fn offend(&mut self, offence: Offence) {
        let frame = match offence {
            Offence::BadCloseCode => masked(CLOSE, &1005_u16.to_be_bytes()),
            Offence::BadHandshake => Vec::new(),
            Offence::BadUtf8 => masked(TEXT, b"\xff"),
            Offence::FragmentedPing => masked(PING & 0x0f, b""),
            Offence::LoneContinuation => masked(0x80, b"of nothing"),
            Offence::LongPing => masked(PING, &[7; 126]),
            Offence::ReservedOpcode => masked(0x83, b""),
            Offence::TooLong => masked(BINARY, &[7; TOO_LONG]),
            Offence::Unmasked => vec![TEXT, 1, b'x'],
        };
        self.out.extend(frame);
    }

    /// Reads and writes until this time, or to the end of the connection.
    async fn talk_until(&mut self, at: Instant) -> Result<(), ()> {
        let mut sleep = pin!(sleep_until(at));
        poll_fn(|cx| {
            if self.poll_talk(cx).is_ready() {
                return Poll::Ready(Err(()));
            }
            sleep.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Ready at the end of the connection.
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_out(cx).is_err() {
                return Poll::Ready(());
            }
            let most = match self.reads {
                Reads::No => return Poll::Pending,
                // Ten times a second.
                Reads::Sips(rate) => (rate / 10).clamp(1, 4096) as usize,
                Reads::Yes => 4096,
            };
            ready!(poll_pause(&mut self.pause.reading, cx));
            let mut bytes = [MaybeUninit::uninit(); 4096];
            let mut buffer = ReadBuf::uninit(&mut bytes[..most]);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.frames.push(buffer.filled()),
            }
            if let Reads::Sips(rate) = self.reads {
                let micros = buffer.filled().len() as u64 * 1_000_000 / rate;
                self.pause.reading = Some(Box::pin(sleep(Duration::from_micros(micros))));
            }
            // What is against the rules is found by a checker that sees all bytes.
            while let Ok(Some(seen)) = self.frames.next() {
                self.hear(seen);
            }
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        while !self.out.is_empty() && self.writes != Writes::Ended {
            if poll_pause(&mut self.pause.writing, cx).is_pending() {
                return Ok(());
            }
            let most = match self.writes {
                Writes::Bytes | Writes::Slowly => 1,
                Writes::End | Writes::Ended | Writes::Whole => self.out.len(),
            };
            let bytes = &self.out.make_contiguous()[..most];
            match Pin::new(&mut self.io).poll_write(cx, bytes) {
                Poll::Pending => return Ok(()),
                // What the peer said before it closed may still be read.
                Poll::Ready(Err(_) | Ok(0)) => {
                    self.out.clear();
                    return if self.reads == Reads::No {
                        Err(())
                    } else {
                        Ok(())
                    };
                }
                Poll::Ready(Ok(taken)) => drop(self.out.drain(..taken)),
            }
            if self.writes == Writes::Slowly {
                self.pause.writing = Some(Box::pin(sleep(SLOW)));
            }
        }
        if self.out.is_empty() && matches!(self.writes, Writes::Bytes | Writes::Slowly) {
            self.writes = Writes::Whole;
        }
        if self.writes == Writes::End {
            self.writes = Writes::Ended;
            // It is at once where it can be at all.
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
        Ok(())
    }

    fn hear(&mut self, seen: Seen) {
        let client = self.client;
        let text = match seen {
            Seen::Head(status) => {
                self.status = Some(status);
                if status == 101 {
                    self.around.recorder.record(Event::Connected { client });
                }
                return;
            }
            Seen::Binary(bytes) => format!("binary {}", Digest::of(&bytes)),
            Seen::Close(code) => {
                // A client that is refused by name was never in a session.
                if self.status == Some(101) {
                    self.around.recorder.record(Event::Closed { client, code });
                }
                if self.ending != Ending::Closed {
                    let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
                    self.out.extend(masked(CLOSE, &payload));
                }
                self.ending = Ending::Closed;
                self.writes = Writes::End;
                return;
            }
            Seen::Fact(fact) => return self.around.places.told(client, &fact),
            Seen::Notice(notice) => {
                return self.around.recorder.record(Event::Told { client, notice });
            }
            Seen::Ping(payload) => return self.out.extend(masked(PONG, &payload)),
            Seen::Placed(placed) => {
                self.around.places.given(client, &placed);
                placed.text
            }
            Seen::Pong => return,
            Seen::Text(text) => text,
        };
        self.around
            .recorder
            .record(Event::Received { client, text });
    }
}
