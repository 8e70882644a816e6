//! A client of bytes: what a polite library would not do, and reads only when it likes to.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::PATIENCE;
use crate::frames::{Frames, Seen, masked};
use crate::net::{Dial, Wire};
use crate::plan::{Script, Step};
use crate::trace::{Digest, Ending, Event, Recorder};
use crate::wild::{Deed, Offence};

/// Opcodes of RFC 6455 5.2 with the bit of a final frame.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Longer than any message a wild plan allows.
const TOO_LONG: usize = 70_000;

/// Does what the script says, from the connection to its end.
pub(crate) async fn run(script: Script, dial: impl Dial, recorder: Recorder) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the host, which is virtual"
    )]
    let beginning = Instant::now();
    let Script {
        client,
        service,
        zone,
        start,
        steps,
    } = script;
    sleep_until(beginning + start).await;
    let bad = Step::Act(Deed::Offend {
        offence: Offence::BadHandshake,
    });
    let is_bad = steps.first() == Some(&(start, bad));
    let request = request(&service, is_bad);
    recorder.record(Event::Connecting {
        client,
        service,
        zone,
    });
    let io = match timeout(PATIENCE, dial.dial(client)).await {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => {
            let reason = error.to_string();
            return recorder.record(Event::Refused { client, reason });
        }
        Err(_) => {
            let reason = "no answer".to_owned();
            return recorder.record(Event::Refused { client, reason });
        }
    };
    let raw = Raw {
        client,
        io,
        recorder: recorder.clone(),
        frames: Frames::default(),
        out: request.into_bytes(),
        reads: Reads::Yes,
        writes: Writes::Whole,
        status: None,
        ending: Ending::Broken,
    };
    let steps = steps.into_iter().map(|(at, step)| (beginning + at, step));
    let (ending, status) = raw.follow(steps, beginning + start + PATIENCE).await;
    if status == Some(101) {
        recorder.record(Event::Ended { client, ending });
    } else {
        let reason = format!("status {status:?}");
        recorder.record(Event::Refused { client, reason });
    }
}

fn request(service: &str, is_bad: bool) -> String {
    let key = if is_bad {
        ""
    } else {
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    };
    format!(
        "GET /ws/{service} HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}\r\n"
    )
}

struct Raw<Io> {
    client: u32,
    io: Io,
    recorder: Recorder,
    frames: Frames,
    /// To be written.
    out: Vec<u8>,
    reads: Reads,
    writes: Writes,
    /// Of the response.
    status: Option<u16>,
    /// How it ends if the connection does.
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// One byte at a time.
    Bytes,
    /// The end, once everything is written.
    End,
    Ended,
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
                // Nothing is said before the upgrade, and nothing after a close frame.
                _ if self.status != Some(101) || self.ending == Ending::Closed => {}
                Step::Leave(code) => {
                    let client = self.client;
                    self.recorder.record(Event::Leaving { client, code });
                    self.out.extend(masked(CLOSE, &code.to_be_bytes()));
                    self.ending = Ending::Closed;
                }
                Step::Act(deed) => self.act(deed),
                Step::Text(text) => {
                    self.out.extend(masked(TEXT, text.as_bytes()));
                    self.sent(text);
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
        self.recorder.record(Event::Did { client, deed });
    }

    fn sent(&self, text: String) {
        let client = self.client;
        self.recorder.record(Event::Sent { client, text });
    }

    fn act(&mut self, deed: Deed) {
        self.did(deed.clone());
        match deed {
            Deed::Binary { bytes } => {
                let payload = vec![self.client as u8; bytes];
                self.out.extend(masked(BINARY, &payload));
            }
            Deed::Fragments { text, bytes } => {
                let mut first = TEXT & 0x0f;
                for part in text.as_bytes().chunks(bytes.max(1)) {
                    self.out.extend(masked(first, part));
                    self.out.extend(masked(PING, b"between"));
                    first = 0;
                }
                self.out.extend(masked(0x80, b""));
                self.sent(text);
            }
            Deed::HalfClose => self.writes = Writes::End,
            Deed::Offend { offence } => self.offend(offence),
            Deed::Partial => {
                let frame = masked(TEXT, b"never finished");
                self.out.extend(&frame[..frame.len() - 3]);
            }
            Deed::Ping => self.out.extend(masked(PING, b"?")),
            Deed::Resume => self.reads = Reads::Yes,
            Deed::Stop => self.reads = Reads::No,
            Deed::Trickle { text } => {
                self.out.extend(masked(TEXT, text.as_bytes()));
                if self.writes == Writes::Whole {
                    self.writes = Writes::Bytes;
                }
                self.sent(text);
            }
            // Taken care of by the caller.
            Deed::Reset | Deed::Vanish => {}
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
            if self.reads == Reads::No {
                return Poll::Pending;
            }
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.frames.push(buffer.filled()),
            }
            // What is against the rules is found by a checker that sees all bytes.
            while let Ok(Some(seen)) = self.frames.next() {
                self.hear(seen);
            }
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        while !self.out.is_empty() && self.writes != Writes::Ended {
            let most = match self.writes {
                Writes::Bytes => 1,
                Writes::End | Writes::Ended | Writes::Whole => self.out.len(),
            };
            match Pin::new(&mut self.io).poll_write(cx, &self.out[..most]) {
                Poll::Pending => return Ok(()),
                // What the peer said before it closed may still be read.
                Poll::Ready(Err(_) | Ok(0)) => {
                    self.out.clear();
                    return if self.reads == Reads::Yes {
                        Ok(())
                    } else {
                        Err(())
                    };
                }
                Poll::Ready(Ok(taken)) => drop(self.out.drain(..taken)),
            }
        }
        if self.out.is_empty() && self.writes == Writes::Bytes {
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
                    self.recorder.record(Event::Connected { client });
                }
                return;
            }
            Seen::Binary(bytes) => format!("binary {}", Digest::of(&bytes)),
            Seen::Close(code) => {
                self.recorder.record(Event::Closed { client, code });
                if self.ending != Ending::Closed {
                    let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
                    self.out.extend(masked(CLOSE, &payload));
                }
                self.ending = Ending::Closed;
                self.writes = Writes::End;
                return;
            }
            Seen::Ping(payload) => return self.out.extend(masked(PONG, &payload)),
            Seen::Pong => return,
            Seen::Text(text) => text,
        };
        self.recorder.record(Event::Received { client, text });
    }
}
