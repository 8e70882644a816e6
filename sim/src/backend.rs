//! A backend: it calls the API over a connection that it keeps, and calls again where it may.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until, timeout};

use crate::calls::{Call, Response, response};
use crate::client::{PATIENCE, RETRY};
use crate::net::{Dial, Wire};
use crate::plan::Errands;
use crate::trace::{Event, Recorder};

/// How often a call is sent at most whose connections end before its answer.
const TRIES: u32 = 6;

/// A call of the plan.
#[derive(Clone, Debug)]
struct Errand {
    at: Instant,
    /// Which of the backend, from 1.
    number: u32,
    call: Call,
    tries: u32,
}

/// Does what the plan says of one backend.
pub(crate) async fn run(errands: Errands, dial: impl Dial, recorder: Recorder) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the host, which is virtual"
    )]
    let beginning = Instant::now();
    let due = (1..).zip(errands.calls).map(|(number, (at, call))| Errand {
        at: beginning + at,
        number,
        call,
        tries: 0,
    });
    let backend = Backend {
        client: errands.client,
        recorder,
        due: due.collect(),
        link: None,
        links: 0,
    };
    backend.work(&dial).await;
}

struct Backend<Io> {
    client: u32,
    recorder: Recorder,
    /// What is still to be done, in order.
    due: VecDeque<Errand>,
    link: Option<Link<Io>>,
    /// Connections so far.
    links: u32,
}

/// A connection, and the calls on it that have no answer yet.
struct Link<Io> {
    io: Io,
    out: VecDeque<u8>,
    arrived: Vec<u8>,
    waiting: VecDeque<Errand>,
}

impl<Io: Wire> Backend<Io> {
    async fn work<D: Dial<Io = Io>>(mut self, dial: &D) {
        while let Some(at) = self.due.front().map(|errand| errand.at) {
            if self.talk_until(at).await.is_err() {
                self.lose();
                continue;
            }
            let Some(errand) = self.due.pop_front() else {
                return;
            };
            if errand.call == Call::HangUp {
                self.hang_up();
            } else {
                self.send(errand, dial).await;
            }
            if self.due.is_empty() {
                self.linger().await;
            }
        }
    }

    /// Waits for the last answers, and keeps the connection until the server ends it.
    async fn linger(&mut self) {
        if self.link.is_some() {
            let ended = poll_fn(|cx| self.poll_talk(cx).map(drop));
            ended.await;
            self.lose();
        }
    }

    /// Sends a call, over a new connection if there is none.
    async fn send<D: Dial<Io = Io>>(&mut self, errand: Errand, dial: &D) {
        if self.link.is_none() {
            let dialled = timeout(PATIENCE, dial.dial(self.client)).await;
            let Ok(Ok(io)) = dialled else {
                return self.again(errand);
            };
            self.links += 1;
            self.link = Some(Link {
                io,
                out: VecDeque::new(),
                arrived: Vec::new(),
                waiting: VecDeque::new(),
            });
        }
        let Some(link) = &mut self.link else {
            return;
        };
        self.recorder.record(Event::Called {
            client: self.client,
            link: self.links,
            number: errand.number,
            call: errand.call.clone(),
        });
        link.out.extend(errand.call.request());
        link.waiting.push_back(errand);
    }

    /// Puts a call back that may be sent again, before all others.
    fn again(&mut self, errand: Errand) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the clock of the host, which is virtual"
        )]
        let at = Instant::now() + RETRY;
        let tries = errand.tries + 1;
        if tries < TRIES {
            self.due.push_front(Errand {
                at,
                tries,
                ..errand
            });
        }
    }

    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            link.io.reset();
            self.give_up(link.waiting);
        }
    }

    /// The connection is over.
    fn lose(&mut self) {
        if let Some(link) = self.link.take() {
            drop(link.io);
            self.give_up(link.waiting);
        }
    }

    fn give_up(&mut self, waiting: VecDeque<Errand>) {
        for errand in waiting.into_iter().rev() {
            self.recorder.record(Event::Unanswered {
                client: self.client,
                link: self.links,
                number: errand.number,
            });
            if errand.call.is_once() {
                self.again(errand);
            }
        }
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

    /// Ready at the end of the connection; waits for ever without one.
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(link) = &mut self.link else {
            return Poll::Pending;
        };
        loop {
            link.poll_out(cx);
            let mut bytes = [MaybeUninit::uninit(); 1024];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let read = ready!(Pin::new(&mut link.io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            link.arrived.extend(buffer.filled());
            loop {
                let answer = match response(&mut link.arrived) {
                    Ok(Some(answer)) => answer,
                    Ok(None) => break,
                    // It is told as an answer to no call.
                    Err(body) => Response { status: 0, body },
                };
                let is_none = answer.status == 0;
                let errand = link.waiting.pop_front().filter(|_| !is_none);
                self.recorder.record(Event::Answered {
                    client: self.client,
                    link: self.links,
                    number: errand.map_or(0, |errand| errand.number),
                    status: answer.status,
                    body: answer.body,
                });
                if is_none {
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<Io: Wire> Link<Io> {
    fn poll_out(&mut self, cx: &mut Context<'_>) {
        while !self.out.is_empty() {
            let bytes = self.out.make_contiguous();
            match Pin::new(&mut self.io).poll_write(cx, bytes) {
                Poll::Pending => return,
                // What the server said before its end is still to be read.
                Poll::Ready(Err(_) | Ok(0)) => self.out.clear(),
                Poll::Ready(Ok(taken)) => drop(self.out.drain(..taken)),
            }
        }
    }
}
