//! What happens in a run of the core alone, as data, and how a seed becomes that.

use std::time::Duration;

use busline::Limits;
use serde::{Deserialize, Serialize};

use super::ends;
use super::executor::Order;
use super::guests::invite;
use super::regulars;
use super::services::{SCRIPT, SERVICES};
use crate::journal::Journal;
use crate::rng::Rng;
use crate::swarm;
use crate::wild::{Offence, Wild};

/// Everything that is done to the core, and the seed of what the run draws below the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed it was drawn from.
    pub seed: u64,
    /// In which order ready tasks are run.
    pub order: Order,
    /// Limits and policies.
    pub wild: Wild,
    /// As in busline's limits.
    pub answers_timeout_ms: u64,
    /// The histories, if a kind of rooms has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// What is done, one after the other; any part of it is a plan.
    pub steps: Vec<Step>,
}

/// Something that is done; with a client or an observer that is not there, nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each is a client, an observer, or what its name says"
)]
pub enum Step {
    /// Time passes, with all that it sets off.
    Advance { ms: u64 },
    /// A client comes to a journal, and speaks JSON; a number connects once.
    Come {
        client: u32,
        room: String,
        /// The client whose last position it shows.
        of: Option<u32>,
        /// So much is added to the offset of that position.
        ahead: u64,
        /// The number of the newest messages that it wants first.
        last: u64,
        /// The last part of its address.
        address: u8,
    },
    /// A client connects; a number connects once.
    Connect { client: u32, service: String },
    /// A client reads everything, but says nothing more.
    Deafen { client: u32 },
    /// The core is told to shut down.
    Drain,
    /// A client's session is dropped, as the shell drops it.
    Drop { client: u32 },
    /// A client connects to the room of this path; a number connects once.
    Enter {
        client: u32,
        room: String,
        /// The last part of its address.
        address: u8,
        /// Its subject; 0 of a client without.
        subject: u8,
    },
    /// The program ends the stream of a journal, with this number in its data.
    End { room: String, data: u64 },
    /// The program removes all messages of a journal.
    Erase { room: String },
    /// The task of the instance of a room is dropped.
    Evict { room: String },
    /// A client sends a text in fragments, with a ping between each two.
    Fragments {
        client: u32,
        text: String,
        bytes: usize,
    },
    /// A client ends its writing half.
    HalfClose { client: u32 },
    /// The clock jumps: nothing runs meanwhile.
    Jump { ms: u64 },
    /// The task of the instance of `script` is dropped.
    Kill,
    /// A client closes with a close frame.
    Leave { client: u32, code: u16 },
    /// An observer receives what is due: one item, or all up to so many bytes.
    Look {
        observer: usize,
        bytes: Option<usize>,
    },
    /// A client of a journal asks for texts of the history.
    LookUp {
        client: u32,
        id: u64,
        limit: usize,
        reverse: bool,
    },
    /// A message is published on the topic of an observer.
    Note { topic: u8, bytes: usize },
    /// A client breaks a rule.
    Offend { client: u32, offence: Offence },
    /// A client sends a ping.
    Ping { client: u32 },
    /// The program publishes so many texts to a journal at once, live alone or for its history.
    Record {
        room: String,
        text: String,
        count: u64,
        live: bool,
    },
    /// A client resets its connection.
    Reset { client: u32 },
    /// A client reads all there is again.
    Resume { client: u32 },
    /// So many tasks that are ready run.
    Run { polls: u32 },
    /// Every task runs until none is ready.
    Settle,
    /// A client reads so many bytes and no more.
    Sip { client: u32, bytes: usize },
    /// A client of a journal asks to publish a text, and for a reply.
    Tell {
        client: u32,
        id: u64,
        text: String,
        live: bool,
    },
    /// A client sends a text.
    Text { client: u32, text: String },
    /// An observer ends its subscription.
    Unwatch { observer: usize },
    /// An observer subscribes to a topic of its own kind.
    Watch { observer: usize, topic: u8 },
}

/// Observers there are at most.
pub(crate) const OBSERVERS: usize = 4;

/// Topics of observers.
pub(crate) const TOPICS: u8 = 2;

impl Plan {
    /// The plan of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::keyed(seed, "core", 0);
        let wild = wild(&mut rng);
        let mut draft = Draft {
            mood: Mood::draw(&mut rng),
            message_bytes: wild.message_bytes,
            steps: Vec::new(),
            clients: 0,
            texts: 0,
            rng,
        };
        let count = draft.rng.within(5..=90);
        for _ in 0..count {
            draft.step();
        }
        draft.end();
        let is_apart = draft.mood.is_gentle() || draft.mood.services == [SCRIPT];
        let mut rng = draft.rng;
        let mut plan = Self {
            seed,
            order: *rng.pick(&[
                Order::Random,
                Order::Random,
                Order::Priorities,
                Order::Fifo,
                Order::Lifo,
            ]),
            answers_timeout_ms: *rng.pick(&[300, FOR_EVER_MS, FOR_EVER_MS]),
            wild,
            journal: None,
            steps: draft.steps,
        };
        // Rules of their own are for plans in which clients only talk, and for clients of `script`.
        if !is_apart {
            invite(&mut plan);
            regulars::invite(&mut plan);
            ends::invite(&mut plan);
        }
        plan
    }

    pub(crate) fn limits(&self) -> Limits {
        let limits = Limits {
            answers_timeout: Duration::from_millis(self.answers_timeout_ms),
            ..self.wild.limits()
        };
        match self.journal {
            None => limits,
            Some(journal) => journal.limit(limits),
        }
    }

    /// Whether no answer may be lost because a client did not read it in time.
    pub(crate) fn keeps_answers(&self) -> bool {
        self.answers_timeout_ms == FOR_EVER_MS
    }
}

/// Shorter than any time that a client has to read in.
pub(crate) const MOMENT_MS: u64 = 200;

/// Longer than any run.
const FOR_EVER_MS: u64 = 100_000_000;

fn wild(rng: &mut Rng) -> Wild {
    let mut wild = swarm::settings(rng, 0);
    wild.sessions = *rng.pick(&[1, 2, 3, 1_000, 1_000, 1_000]);
    wild.window_messages = *rng.pick(&[1, 2, 3, 5, 256]);
    wild.window_bytes = *rng.pick(&[1, 60, 500, 1 << 20]);
    wild.message_bytes = *rng.pick(&[60, 120, 300, 5_000]);
    wild.keepalive_ms = *rng.pick(&[1_000, 5_000, 30_000]);
    wild.write_timeout_ms = *rng.pick(&[700, 5_000, 60_000]);
    wild.accept_timeout_ms = *rng.pick(&[2_000, 2_000, 60_000]);
    wild
}

/// What a seed likes to do.
struct Mood {
    services: Vec<&'static str>,
    kinds: Vec<Kind>,
    clients_max: u32,
    /// Of these, so many do anything, and the others only listen.
    active_max: u32,
    observes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Advance,
    Connect,
    Deafen,
    Drain,
    Drop,
    Fragments,
    HalfClose,
    Jump,
    Kill,
    Leave,
    Offend,
    Order,
    Ping,
    Reset,
    Resume,
    Sip,
    Stop,
    Text,
    Burst,
}

/// Each as often as it is there.
const KINDS: [Kind; 40] = {
    use Kind::{
        Advance, Burst, Connect, Deafen, Drain, Drop, Fragments, HalfClose, Jump, Kill, Leave,
        Offend, Order as Ordered, Ping, Reset, Resume, Sip, Stop, Text,
    };
    [
        Advance, Advance, Advance, Advance, Advance, Burst, Burst, Burst, Burst, Connect, Connect,
        Connect, Connect, Connect, Connect, Deafen, Drain, Drop, Fragments, HalfClose, Jump, Kill,
        Leave, Leave, Leave, Offend, Ordered, Ordered, Ordered, Ping, Reset, Resume, Resume, Sip,
        Sip, Stop, Stop, Text, Text, Text,
    ]
};

/// Clients of `echo` that ask more than they read.
const ASKS: [Kind; 8] = {
    use Kind::{Advance, Burst, Connect, Resume, Sip, Stop};
    [Advance, Burst, Burst, Connect, Resume, Sip, Sip, Stop]
};

/// Clients that come and go while their service does something else.
const CHURNS: [Kind; 6] = {
    use Kind::{Advance, Connect, Leave, Order as Ordered, Text};
    [Advance, Connect, Connect, Leave, Ordered, Text]
};

/// Clients that only talk.
const TALKS: [Kind; 7] = {
    use Kind::{Advance, Burst, Connect, Fragments, Ping, Text};
    [Advance, Burst, Connect, Connect, Fragments, Ping, Text]
};

impl Mood {
    fn draw(rng: &mut Rng) -> Self {
        let clients_max = rng.within(1..=8) as u32;
        let mood = |services: &[&'static str], kinds: &[Kind], clients_max| Self {
            services: services.to_vec(),
            kinds: kinds.to_vec(),
            clients_max,
            active_max: clients_max,
            observes: false,
        };
        match rng.within(0..=9) {
            0 => mood(&["echo"], &ASKS, clients_max),
            1 => mood(&[SCRIPT], &CHURNS, 30),
            2 => Self {
                active_max: rng.within(1..=u64::from(clients_max)) as u32,
                ..mood(&["echo", "ping"], &TALKS, clients_max)
            },
            _ => Self::any(rng, clients_max),
        }
    }

    fn any(rng: &mut Rng, clients_max: u32) -> Self {
        let part = rng.within(2..=6);
        let mut kinds = Vec::new();
        let mut last = None;
        let mut is_liked = true;
        for kind in KINDS {
            // All of a kind, or none.
            if last.replace(kind) != Some(kind) {
                is_liked = rng.chance(part, 6);
            }
            if is_liked || [Kind::Advance, Kind::Connect, Kind::Text].contains(&kind) {
                kinds.push(kind);
            }
        }
        let services = match rng.within(0..=5) {
            0..=3 => vec![SERVICES[rng.within(0..=2) as usize]],
            _ => SERVICES.to_vec(),
        };
        Self {
            services,
            kinds,
            clients_max,
            active_max: clients_max,
            observes: rng.chance(1, 3),
        }
    }

    /// Whether no client does anything else than to talk.
    fn is_gentle(&self) -> bool {
        self.kinds == TALKS
    }
}

/// A plan that is being drawn.
struct Draft {
    rng: Rng,
    mood: Mood,
    message_bytes: usize,
    steps: Vec<Step>,
    clients: u32,
    texts: u32,
}

impl Draft {
    fn step(&mut self) {
        if self.mood.observes && self.rng.chance(1, 2) {
            let step = self.observation();
            self.steps.push(step);
            return;
        }
        let kind = *self.rng.pick(&self.mood.kinds);
        let client = self.someone();
        match kind {
            Kind::Advance => self.advance(),
            Kind::Burst => {
                for _ in 0..self.rng.within(2..=8) {
                    self.text(client, "say");
                }
            }
            Kind::Connect => self.connect(),
            Kind::Deafen => self.steps.push(Step::Deafen { client }),
            Kind::Drain if self.rng.chance(1, 4) => self.steps.push(Step::Drain),
            Kind::Drain => {}
            Kind::Drop => self.steps.push(Step::Drop { client }),
            Kind::Fragments => {
                let text = self.words(client, "say");
                let bytes = *self.rng.pick(&[1, 3, 17, 100]);
                let bytes = bytes.max(text.len() / 20);
                self.steps.push(Step::Fragments {
                    client,
                    text,
                    bytes,
                });
            }
            Kind::HalfClose => self.steps.push(Step::HalfClose { client }),
            Kind::Jump => {
                let ms = self.rng.within(1..=100_000);
                self.steps.push(Step::Jump { ms });
            }
            Kind::Kill => self.steps.push(Step::Kill),
            Kind::Leave => {
                let code = *self.rng.pick(&[1000, 1001, 1002, 1011, 3000, 4999]);
                self.steps.push(Step::Leave { client, code });
            }
            Kind::Offend => self.offend(client),
            Kind::Order => {
                let word = *self.rng.pick(&["doze", "error", "panic", "slow", "stuck"]);
                self.text(client, word);
                // Others wait for it to wake up.
                for _ in 0..self.rng.within(0..=2) {
                    let client = self.someone();
                    self.text(client, "say");
                }
            }
            Kind::Ping => self.steps.push(Step::Ping { client }),
            Kind::Reset => self.steps.push(Step::Reset { client }),
            Kind::Resume => self.steps.push(Step::Resume { client }),
            Kind::Sip => {
                let bytes = *self.rng.pick(&[1, 30, 100, 1_000]);
                self.steps.push(Step::Sip { client, bytes });
            }
            Kind::Stop => self.steps.push(Step::Sip { client, bytes: 0 }),
            Kind::Text => self.text(client, "say"),
        }
        self.pause();
    }

    /// Mostly something runs before the next step, often not everything.
    fn pause(&mut self) {
        match self.rng.within(0..=5) {
            0 | 1 => {
                let polls = self.rng.within(1..=5) as u32;
                self.steps.push(Step::Run { polls });
            }
            2 => self.steps.push(Step::Settle),
            _ => {}
        }
    }

    fn advance(&mut self) {
        let most = *self.rng.pick(&[50, 1_000, 3_000, 20_000]);
        let ms = self.rng.within(1..=most);
        self.steps.push(Step::Advance { ms });
    }

    fn connect(&mut self) {
        if self.clients < self.mood.clients_max {
            self.clients += 1;
            let service = (*self.rng.pick(&self.mood.services)).to_owned();
            let client = self.clients;
            self.steps.push(Step::Connect { client, service });
        }
    }

    fn text(&mut self, client: u32, word: &str) {
        let text = self.words(client, word);
        self.steps.push(Step::Text { client, text });
    }

    /// A client that does something.
    fn someone(&mut self) -> u32 {
        let active = self.clients.min(self.mood.active_max).max(1);
        self.rng.within(1..=u64::from(active)) as u32
    }

    /// A text that nobody else sends; some are of exactly the limit, some are not ASCII.
    fn words(&mut self, client: u32, word: &str) -> String {
        self.texts += 1;
        let mut text = format!("{word} client {client} text {} ", self.texts);
        let most = self.message_bytes.saturating_sub(text.len());
        match self.rng.within(0..=5) {
            0 => text.extend(std::iter::repeat_n('x', most)),
            1 => {
                let characters = ['\u{e9}', '\u{20ac}', '\u{1f980}'];
                for _ in 0..(most / 4).min(12) {
                    text.push(*self.rng.pick(&characters));
                }
            }
            2 => text.extend(std::iter::repeat_n('x', most.min(130))),
            _ => {}
        }
        text
    }

    fn offend(&mut self, client: u32) {
        let offence = *self.rng.pick(&[
            Offence::BadCloseCode,
            Offence::BadUtf8,
            Offence::FragmentedPing,
            Offence::LoneContinuation,
            Offence::LongPing,
            Offence::ReservedOpcode,
            Offence::TooLong,
            Offence::Unmasked,
        ]);
        self.steps.push(Step::Offend { client, offence });
    }

    fn observation(&mut self) -> Step {
        let observer = self.rng.within(0..=OBSERVERS as u64 - 1) as usize;
        let topic = self.rng.within(0..=u64::from(TOPICS) - 1) as u8;
        match self.rng.within(0..=9) {
            0 | 1 => Step::Watch { observer, topic },
            2 => Step::Unwatch { observer },
            3 | 4 => Step::Look {
                observer,
                bytes: self
                    .rng
                    .chance(1, 2)
                    .then(|| self.rng.within(0..=120) as usize),
            },
            _ => Step::Note {
                topic,
                bytes: self.rng.within(0..=60) as usize,
            },
        }
    }

    /// The core is drained while all talk, and some do not read for a moment.
    fn drain_amid(&mut self) {
        let stops = self.rng.chance(1, 2);
        for client in 1..=self.clients {
            if stops && self.rng.chance(1, 2) {
                self.steps.push(Step::Sip { client, bytes: 0 });
            }
        }
        for _ in 0..self.rng.within(0..=8) {
            let client = self.someone();
            self.text(client, "say");
        }
        self.pause();
        self.steps.push(Step::Drain);
        if stops {
            let ms = self.rng.within(1..=MOMENT_MS);
            self.steps.push(Step::Advance { ms });
            for client in 1..=self.clients {
                self.steps.push(Step::Resume { client });
            }
        }
    }

    /// All read again, a newcomer is served, and the core is drained.
    fn end(&mut self) {
        if self.mood.is_gentle() {
            return self.drain_amid();
        }
        self.steps.push(Step::Settle);
        for client in 1..=self.clients {
            self.steps.push(Step::Resume { client });
        }
        let ms = self.rng.within(1..=15_000);
        self.steps.push(Step::Advance { ms });
        self.mood.clients_max += 1;
        self.connect();
        let client = self.clients;
        self.text(client, "say");
        self.steps.push(Step::Settle);
        if self.rng.chance(1, 2) {
            for client in 1..=self.clients {
                self.steps.push(Step::Leave { client, code: 1000 });
            }
            self.advance();
        }
        self.steps.push(Step::Drain);
    }
}
