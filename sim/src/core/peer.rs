//! A client's end of a pipe: a task that reads, answers and closes, as far as it was not told
//! otherwise.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;

use super::executor::Executor;
use super::pipe::{Arrived, Pipe};
use super::reader::Heard;
use crate::frames::{Frames, Seen, masked};
use crate::past::{Company, Fact, Placed};
use crate::shared::Shared;
use crate::speech::{Notice, Speech};
use crate::trace::{Digest, Ending, Event, Recorder};

/// What stands in for the response that upgrades a connection.
pub(crate) const HEAD: &[u8] = b"HTTP/1.1 101 \r\n\r\n";

/// The same for a client that speaks JSON.
pub(crate) const JSON_HEAD: &[u8] =
    b"HTTP/1.1 101 \r\nSec-WebSocket-Protocol: busline.v1.json\r\n\r\n";

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// A client; clones are the same.
#[derive(Clone)]
pub(crate) struct Peer {
    client: u32,
    pub(crate) pipe: Pipe,
    recorder: Recorder,
    speech: Speech,
    state: Shared<State>,
}

struct State {
    frames: Frames,
    /// Bytes that it may still read; `None` if it reads all there is.
    appetite: Option<usize>,
    is_deaf: bool,
    /// It has sent a close frame, or will send nothing more for another reason.
    is_done: bool,
    sent: Vec<String>,
    received: Vec<String>,
    /// What a client of a journal was told, until that is taken.
    heard: Vec<Heard>,
    /// What it was told of joins and leaves, until that is taken.
    company: Vec<Company>,
    /// It was told of the end of its stream.
    has_ended: bool,
    /// Whether the last ping is still to be answered.
    awaits_pong: bool,
    /// When the server's close frame was seen, and its code.
    closed: Option<(Duration, Option<u16>)>,
}

impl Peer {
    pub(crate) fn new(client: u32, pipe: Pipe, recorder: Recorder, head: &[u8]) -> Self {
        let mut frames = Frames::default();
        frames.push(head);
        Self {
            client,
            pipe,
            recorder,
            speech: Speech::agreed(&String::from_utf8_lossy(head)),
            state: Shared::new(State {
                frames,
                appetite: None,
                is_deaf: false,
                is_done: false,
                sent: Vec::new(),
                received: Vec::new(),
                heard: Vec::new(),
                company: Vec::new(),
                has_ended: false,
                awaits_pong: false,
                closed: None,
            }),
        }
    }

    /// Starts to read.
    pub(crate) fn start(&self, rt: &Executor) {
        let peer = self.clone();
        let task = async move {
            let ending = poll_fn(|cx| peer.poll(cx)).await;
            let client = peer.client;
            peer.state.with(|state| state.is_done = true);
            peer.recorder.record(Event::Ended { client, ending });
        };
        rt.spawn_foreign(task.boxed());
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let most = self
                .state
                .with(|state| state.appetite.unwrap_or(READ_BYTES));
            if most == 0 {
                self.pipe.park(cx);
                return Poll::Pending;
            }
            match self.pipe.poll_hear(cx, most) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Arrived::Reset) => return Poll::Ready(Ending::Broken),
                Poll::Ready(Arrived::End) => {
                    let is_closed = self.state.with(|state| state.closed.is_some());
                    self.pipe.end();
                    let ending = if is_closed {
                        Ending::Closed
                    } else {
                        Ending::Broken
                    };
                    return Poll::Ready(ending);
                }
                Poll::Ready(Arrived::Bytes(bytes)) => self.take(&bytes),
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        self.state.with(|state| {
            state.appetite = state.appetite.map(|most| most - bytes.len().min(most));
            state.frames.push(bytes);
        });
        // What is against the rules is found by a checker that sees all bytes.
        while let Some(seen) = self.state.with(|state| state.frames.next().ok().flatten()) {
            self.hear(seen);
        }
    }

    fn hear(&self, seen: Seen) {
        let client = self.client;
        let text = match seen {
            Seen::Head(_) => return,
            Seen::Binary(bytes) => format!("binary {}", Digest::of(&bytes)),
            Seen::Close(code) => return self.hear_close(code),
            Seen::Ping(payload) => {
                let is_deaf = self.state.with(|state| state.is_deaf || state.is_done);
                if !is_deaf {
                    self.pipe.send(&masked(PONG, &payload));
                }
                return;
            }
            // After the end of its stream a client is told nothing, also not who comes and leaves.
            Seen::Fact(Fact::Company(company)) if !self.state.with(|state| state.has_ended) => {
                return self.state.with(|state| state.company.push(company));
            }
            Seen::Fact(fact) => {
                let ends = matches!(fact, Fact::End { .. });
                self.state.with(|state| state.has_ended |= ends);
                return self.hear_aside(Heard::Fact(fact));
            }
            Seen::Notice(Notice::Lagged { messages }) => {
                return self.hear_aside(Heard::Lagged(messages));
            }
            // No service of a client that asks for them starts again.
            Seen::Notice(Notice::Restarted { .. }) => return,
            Seen::Placed(placed) => {
                let text = placed.text.clone();
                self.hear_aside(Heard::Placed(placed));
                text
            }
            Seen::Pong => return self.state.with(|state| state.awaits_pong = false),
            Seen::Text(text) => {
                if self.speech.json {
                    let text = text.clone();
                    self.hear_aside(Heard::Placed(Placed { text, offset: None }));
                }
                text
            }
        };
        self.state.with(|state| state.received.push(text.clone()));
        self.recorder.record(Event::Received { client, text });
    }

    fn hear_aside(&self, heard: Heard) {
        self.state.with(|state| state.heard.push(heard));
    }

    /// Takes what a client of a journal was told since the last time.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.state.with(|state| std::mem::take(&mut state.heard))
    }

    /// Takes what it was told of joins and leaves since the last time.
    pub(crate) fn company(&self) -> Vec<Company> {
        self.state.with(|state| std::mem::take(&mut state.company))
    }

    fn hear_close(&self, code: Option<u16>) {
        let (client, now) = (self.client, self.recorder.now());
        self.recorder.record(Event::Closed { client, code });
        let (is_deaf, was_done) = self.state.with(|state| {
            state.closed = Some((now, code));
            (state.is_deaf, std::mem::replace(&mut state.is_done, true))
        });
        if is_deaf {
            return;
        }
        if !was_done {
            let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
            self.pipe.send(&masked(CLOSE, &payload));
        }
        self.pipe.end();
    }

    /// Sends bytes, unless it has closed.
    fn say(&self, bytes: &[u8]) -> bool {
        let may = self.is_talking();
        if may {
            self.pipe.send(bytes);
        }
        may
    }

    /// Whether it may still send.
    pub(crate) fn is_talking(&self) -> bool {
        self.state.with(|state| !state.is_done && !state.is_deaf)
    }

    pub(crate) fn text(&self, text: &str) {
        let envelope = self.speech.envelope(text);
        if self.say(&masked(TEXT, envelope.as_bytes())) {
            self.sent(text);
        }
    }

    /// Sends a request, which publishes this text if it has one.
    pub(crate) fn request(&self, json: &str, text: Option<&str>) {
        if self.say(&masked(TEXT, json.as_bytes()))
            && let Some(text) = text
        {
            self.sent(text);
        }
    }

    fn sent(&self, text: &str) {
        let (client, text) = (self.client, text.to_owned());
        self.state.with(|state| state.sent.push(text.clone()));
        self.recorder.record(Event::Sent { client, text });
    }

    /// Sends a text in parts of this many bytes, with a ping between each two.
    pub(crate) fn fragments(&self, text: &str, bytes: usize) {
        if !self.is_talking() {
            return;
        }
        let mut first = TEXT & 0x0f;
        for part in text.as_bytes().chunks(bytes.max(1)) {
            self.pipe.send(&masked(first, part));
            self.ping();
            first = 0;
        }
        self.pipe.send(&masked(0x80, b""));
        self.sent(text);
    }

    pub(crate) fn ping(&self) {
        if self.say(&masked(PING, b"?")) {
            self.state.with(|state| state.awaits_pong = true);
        }
    }

    /// Closes with this code.
    pub(crate) fn leave(&self, code: u16) {
        let client = self.client;
        if self.is_talking() {
            self.recorder.record(Event::Leaving { client, code });
            self.say(&masked(CLOSE, &code.to_be_bytes()));
            self.state.with(|state| state.is_done = true);
        }
    }

    /// Sends bytes that break a rule, and nothing after them.
    pub(crate) fn offend(&self, bytes: &[u8]) {
        if self.say(bytes) {
            self.state.with(|state| state.is_done = true);
        }
    }

    /// Ends its side without a close frame.
    pub(crate) fn half_close(&self) {
        self.state.with(|state| state.is_done = true);
        self.pipe.end();
    }

    pub(crate) fn reset(&self) {
        self.state.with(|state| state.is_done = true);
        self.pipe.reset();
    }

    /// Reads so many bytes and no more, or whatever there is.
    pub(crate) fn read(&self, appetite: Option<usize>) {
        self.state.with(|state| state.appetite = appetite);
        self.pipe.nudge();
    }

    /// Reads all there is from now on, and says nothing any more.
    pub(crate) fn deafen(&self) {
        self.state.with(|state| state.is_deaf = true);
        self.read(None);
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.state.with(|state| state.appetite.is_none())
    }

    pub(crate) fn awaits_pong(&self) -> bool {
        self.state.with(|state| state.awaits_pong)
    }

    /// The code of the server's close frame, if it was seen.
    pub(crate) fn closed(&self) -> Option<Option<u16>> {
        self.state.with(|state| state.closed.map(|(_, code)| code))
    }

    /// When the server's close frame was seen.
    pub(crate) fn closed_at(&self) -> Option<Duration> {
        self.state.with(|state| state.closed.map(|(at, _)| at))
    }

    /// What it has sent and what it has received.
    pub(crate) fn talk<T>(&self, visit: impl FnOnce(&[String], &[String]) -> T) -> T {
        self.state.with(|state| visit(&state.sent, &state.received))
    }
}
