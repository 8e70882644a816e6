//! A session on a socket of the test's own: whatever the peer does, it ends, is legal and is
//! counted.

use std::time::Duration;

use busline::app::App;
use busline::bus::{MessageBus, Topic};
use busline::limits::{KeepalivePolicy, SlowConsumer};
use busline::rt::Spawn;
use busline::session::{Admission, Session};
use busline::{Context, Limits};
use futures::FutureExt;

use super::bytes::Bytes;
use super::executor::Manual;
use super::peer::{Peer, Said};

/// Something the peer, the service or the world does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// So many tenths of a second pass.
    Advance(u8),
    /// The peer closes with the code 1000 + n.
    Close(u8),
    Drain,
    /// The peer ends its side of the stream.
    End,
    /// The service fails.
    Fail,
    /// A text in two frames, with a ping between them.
    Fragments(u8),
    Ping(u8),
    Pong,
    /// Somebody publishes so many messages to all clients.
    Publish(u8),
    /// Any byte, as it is.
    Raw(u8),
    /// The connection breaks.
    Reset,
    /// The socket takes so many more bytes.
    Room(u8),
    /// One task that is ready runs.
    Run(u8),
    /// Every task runs until none is ready.
    Settle,
    /// A text of so many bytes.
    Text(u8),
}

impl Op {
    /// The next operation of a fuzzer's bytes.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let kind = bytes.below(18)?;
        let n = bytes.next()?;
        Some(match kind {
            0 => Self::Advance(n),
            1 => Self::Close(n),
            2 if n < 32 => Self::Drain,
            3 if n < 32 => Self::End,
            4 if n < 32 => Self::Fail,
            5 => Self::Fragments(n),
            6 => Self::Ping(n),
            7 => Self::Pong,
            8 | 2 => Self::Publish(n),
            9 if n < 64 => Self::Raw(bytes.next()?),
            10 if n < 32 => Self::Reset,
            11 | 10 => Self::Room(n),
            12 | 3 | 4 => Self::Run(n),
            13 | 14 => Self::Settle,
            _ => Self::Text(n),
        })
    }
}

/// The body of the fuzz target: a byte of window, one of policy, then operations.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (Some(window), Some(policy)) = (bytes.below(8), bytes.below(2)) else {
        return;
    };
    let slow_consumer = if policy == 0 {
        SlowConsumer::Skip
    } else {
        SlowConsumer::Close
    };
    let ops: Vec<_> = std::iter::from_fn(|| Op::read(&mut bytes)).collect();
    run(usize::from(window) + 1, slow_consumer, &ops);
}

/// Applies the operations, then lets time pass until the session must have ended.
pub(crate) fn run(window: usize, slow_consumer: SlowConsumer, ops: &[Op]) {
    let mut world = World::new(window, slow_consumer);
    for op in ops {
        world.apply(*op);
        world.peer.check();
    }
    world.end();
}

struct World {
    rt: Manual,
    app: App<Manual>,
    peer: Peer,
    /// Texts the peer has sent while it kept to the protocol.
    sent: Vec<String>,
    lawful: bool,
    published: u32,
}

/// The word that makes the service fail.
const FAIL: &str = "fail";

/// Answers each message to its sender, and fails when somebody says so on its inbox.
async fn service(mut ctx: Context) -> Result<(), &'static str> {
    while let Some(message) = ctx.recv().await {
        if message.sender().is_none() && message.as_text() == Some(FAIL) {
            return Err("as told");
        }
        ctx.reply(&message, &message);
    }
    Ok(())
}

fn limits(window: usize) -> Limits {
    let mut limits = Limits {
        message_bytes: 200,
        keepalive: KeepalivePolicy {
            interval: Duration::from_secs(10),
            ..KeepalivePolicy::default()
        },
        accept_timeout: Duration::from_secs(20),
        // Longer than any run: within it no answer may be lost.
        answers_timeout: Duration::from_secs(1000),
        write_timeout: Duration::from_secs(15),
        outbox_bytes: 64,
        ..Limits::default()
    };
    limits.window.messages = window.try_into().expect("a window is not empty");
    limits
}

impl World {
    fn new(window: usize, slow_consumer: SlowConsumer) -> Self {
        let rt = Manual::default();
        let app = App::builder(rt.clone())
            .limits(limits(window))
            .slow_consumer(slow_consumer)
            .service("s", service)
            .expect("a valid name")
            .build();
        let peer = Peer::default();
        let admission = Admission::request(&app, "s").expect("admitted");
        let session = Session::new(admission, peer.socket());
        rt.spawn(session.map(drop).boxed());
        Self {
            rt,
            app,
            peer,
            sent: Vec::new(),
            lawful: true,
            published: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Advance(tenths) => self
                .rt
                .advance(Duration::from_millis(u64::from(tenths) * 100)),
            Op::Close(n) => {
                let code = 1000 + u16::from(n);
                self.peer.send(true, 8, &code.to_be_bytes());
                self.lawful = false;
            }
            Op::Drain => self.app.drain(),
            Op::End => {
                self.peer.end();
                self.lawful = false;
            }
            Op::Fail => {
                let service = self.app.registry().name("s").expect("registered");
                let inbox = Topic::from_ws_to_service(service);
                self.app.bus().publish(&inbox, FAIL.into());
                self.lawful = false;
            }
            Op::Fragments(n) => self.fragments(n),
            Op::Ping(n) => self.peer.send(true, 9, &[n; 3]),
            Op::Pong => self.peer.send(true, 10, b""),
            Op::Publish(count) => self.publish(count % 8),
            Op::Raw(byte) => {
                self.peer.send_raw(&[byte]);
                self.lawful = false;
            }
            Op::Reset => {
                self.peer.reset();
                self.lawful = false;
            }
            Op::Room(bytes) => self.peer.make_room(usize::from(bytes)),
            Op::Run(choice) => {
                self.rt.run_one(usize::from(choice));
            }
            Op::Settle => self.rt.settle(),
            Op::Text(n) => {
                let text = self.text(n);
                self.peer.send(true, 1, text.as_bytes());
            }
        }
    }

    /// A text of about so many bytes that nobody else sends.
    fn text(&mut self, n: u8) -> String {
        let text = format!("{}:{}", self.sent.len(), "x".repeat(usize::from(n)));
        if text.len() > 200 {
            // Closes the session with 1009.
            self.lawful = false;
        }
        if self.lawful {
            self.sent.push(text.clone());
        }
        text
    }

    fn fragments(&mut self, n: u8) {
        let text = self.text(n);
        let (head, tail) = text.as_bytes().split_at(text.len() / 2);
        self.peer.send(false, 1, head);
        self.peer.send(true, 9, b"between");
        self.peer.send(true, 0, tail);
    }

    fn publish(&mut self, count: u8) {
        let service = self.app.registry().name("s").expect("registered");
        let topic = Topic::from_service_to_ws(service);
        for _ in 0..count {
            self.published += 1;
            let text = format!("all:{}", self.published);
            self.app.bus().publish(&topic, text.into());
        }
    }

    /// What came back to the peer is what it sent, in order, and nothing else.
    fn check_answers(&self) {
        let texts = self.peer.said().into_iter().filter_map(|said| match said {
            Said::Text(text) => Some(text),
            Said::Binary(_) | Said::Close(_) | Said::Ping | Said::Pong(_) => None,
        });
        let (all, own): (Vec<_>, Vec<_>) = texts.partition(|text| text.starts_with("all:"));
        let numbers: Vec<u32> = all
            .iter()
            .map(|text| text["all:".len()..].parse().expect("a number"))
            .collect();
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "out of order or twice: {numbers:?}"
        );
        let mut sent = self.sent.iter();
        for text in own.iter().filter(|text| self.sent.contains(text)) {
            assert!(
                sent.any(|sent| sent == text),
                "out of order or twice: {text:?}"
            );
        }
    }

    /// The peer is silent from now on: the session ends, whatever its state, and all is counted.
    fn end(mut self) {
        self.rt.settle();
        self.check_answers();
        if self.lawful && self.app.counts().sessions_open == 1 {
            self.check_complete();
        }
        self.rt.advance(Duration::from_secs(300));
        self.peer.check();
        self.check_answers();
        let counts = self.app.counts();
        assert_eq!(counts.sessions_open, 0, "the session did not end");
        assert_eq!((counts.sessions.opened, counts.sessions.closed), (1, 1));
        assert_eq!(
            (
                counts.bus.topics,
                counts.bus.subscriptions,
                counts.bus.bytes
            ),
            (0, 0, 0)
        );
        let bus = counts.bus.messages;
        assert_eq!(
            bus.owed,
            bus.delivered + bus.lost_lagged + bus.lost_superseded + bus.lost_unsubscribed
        );
        assert_eq!(
            (self.rt.tasks(), self.rt.timers()),
            (0, 0),
            "tasks or timers were left"
        );
    }

    /// A peer that kept to the protocol, is still served and has all the room it wants gets the
    /// answers to all it sent.
    fn check_complete(&mut self) {
        self.peer.make_room(1 << 20);
        self.rt.settle();
        if self.app.counts().sessions_open == 0 || self.peer.is_closed() {
            return;
        }
        let answers = self.peer.said().into_iter().filter_map(|said| match said {
            Said::Text(text) if !text.starts_with("all:") => Some(text),
            Said::Text(_) | Said::Binary(_) | Said::Close(_) | Said::Ping | Said::Pong(_) => None,
        });
        assert_eq!(answers.collect::<Vec<_>>(), self.sent, "an answer was lost");
    }
}
