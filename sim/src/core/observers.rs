//! Subscribers to topics of their own, against the window as a plain queue.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use busline::bus::{Batch, InMemoryMessageBus, Message, MessageBus, Received, Subscription, Topic};
use busline::limits::Window;

use super::plan::OBSERVERS;
use super::rules::Found;

/// The observers of a run.
pub(crate) struct Observers {
    window: Window,
    all: [Option<Observer>; OBSERVERS],
    /// Losses that were told.
    pub(crate) told: u64,
}

struct Observer {
    subscription: Subscription,
    /// What it must receive: texts, and the number lost before them.
    due: VecDeque<String>,
    lost: u64,
}

impl Observers {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            all: Default::default(),
            told: 0,
        }
    }

    /// The topic of this number.
    pub(crate) fn topic(number: u8) -> Topic {
        let name = format!("observed-{number}");
        name.parse().expect("a valid name")
    }

    /// Subscribes, if it is not subscribed.
    pub(crate) fn watch(&mut self, bus: &InMemoryMessageBus, observer: usize, topic: u8) -> Found {
        let Some(place @ None) = self.all.get_mut(observer) else {
            return Ok(());
        };
        let subscription = bus.subscribe(&Self::topic(topic));
        *place = Some(Observer {
            subscription: subscription.map_err(|error| error.to_string())?,
            due: VecDeque::new(),
            lost: 0,
        });
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, observer: usize) {
        drop(self.all.get_mut(observer).map(Option::take));
    }

    pub(crate) fn clear(&mut self) {
        self.all = Default::default();
    }

    /// A message is published: every observer of the topic is owed it, within the window.
    pub(crate) fn note(&mut self, topic: &Topic, text: &str) {
        let (most, most_bytes) = (self.window.messages.get(), self.window.bytes);
        let all = self.all.iter_mut().flatten();
        for observer in all.filter(|observer| observer.subscription.topic() == topic) {
            observer.due.push_back(text.to_owned());
            let bytes = |due: &VecDeque<String>| due.iter().map(String::len).sum::<usize>();
            while observer.due.len() > most
                || (observer.due.len() > 1 && bytes(&observer.due) > most_bytes)
            {
                observer.due.pop_front();
                observer.lost += 1;
            }
        }
    }

    /// Receives one item, or all up to so many bytes, and compares.
    pub(crate) fn look(&mut self, observer: usize, bytes: Option<usize>) -> Found {
        let Some(Some(observer)) = self.all.get_mut(observer) else {
            return Ok(());
        };
        let mut cx = Context::from_waker(Waker::noop());
        let (lost, got) = match bytes {
            None => match observer.subscription.poll_recv(&mut cx) {
                Poll::Pending => (0, Vec::new()),
                Poll::Ready(Received::Lagged(lost)) => (lost, Vec::new()),
                Poll::Ready(Received::Message(message)) => (0, vec![message]),
            },
            Some(bytes) => {
                let mut got = Vec::new();
                let sink = |batch: Batch| got.extend(batch.messages());
                match observer.subscription.poll_batches(&mut cx, bytes, sink) {
                    Poll::Pending => (0, got),
                    Poll::Ready(lost) => (lost, got),
                }
            }
        };
        self.told += lost;
        observer.compare(lost, &got, bytes)
    }
}

impl Observer {
    fn compare(&mut self, lost: u64, got: &[Message], bytes: Option<usize>) -> Found {
        let owed = std::mem::take(&mut self.lost);
        if lost != owed {
            return Err(format!("an observer lost {owed} and was told of {lost}"));
        }
        if got.is_empty() && (bytes.is_some() || lost == 0) && !self.due.is_empty() {
            return Err(format!("an observer was given nothing of {:?}", self.due));
        }
        for message in got {
            let due = self.due.pop_front();
            if message.as_text() != due.as_deref() {
                let got = message.as_text();
                return Err(format!("an observer was given {got:?} instead of {due:?}"));
            }
        }
        let unread = self.subscription.pending();
        if unread != self.due.len() as u64 {
            let due = self.due.len();
            return Err(format!("{unread} messages wait for an observer, not {due}"));
        }
        Ok(())
    }
}
