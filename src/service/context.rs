//! The interface of a running service to its surroundings.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use super::Stop;
use crate::bus::{
    Batch, Generation, Message, MessageBus, Origin, Publisher, Received, Sender, ServiceName,
    Subscription, Topic,
};
use crate::planted::{self, Bug};
use crate::rt::{Clock, Instant};

/// A run of a service: its inbox, its clients' topics, and time.
pub struct Context {
    service: ServiceName,
    generation: Generation,
    inbox: Subscription,
    to_all: Publisher,
    stop: Stop,
    bus: Arc<dyn MessageBus>,
    clock: Arc<dyn Clock>,
    lost: u64,
}

/// The first event that [`Context::next_until`] saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The deadline has passed.
    Elapsed,
    /// A client sent this message.
    Message(Message),
    /// The last client has left and all messages are received: return soon.
    Stopped,
}

/// The values from which the registry makes an instance's [`Context`].
pub(crate) struct Seed {
    pub(crate) service: ServiceName,
    pub(crate) generation: Generation,
    pub(crate) inbox: Subscription,
    pub(crate) stop: Stop,
}

impl Context {
    pub(crate) fn new(seed: Seed, bus: Arc<dyn MessageBus>, clock: Arc<dyn Clock>) -> Self {
        Self {
            to_all: bus.publisher(&Topic::from_service_to_ws(&seed.service)),
            service: seed.service,
            generation: seed.generation,
            inbox: seed.inbox,
            stop: seed.stop,
            bus,
            clock,
            lost: 0,
        }
    }

    /// The name under which the service runs.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The number of this run of the service: 1 for the first.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Waits for the next message of a client. Returns `None` once the last client has left and all
    /// messages of clients are received: the service should then return soon, and is aborted after
    /// the grace.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for the next batch, at least one message of one client: receiving and publishing a
    /// batch costs less than its messages one by one. Returns `None` when [`recv`](Self::recv)
    /// does.
    ///
    /// ```
    /// # use busline::Context;
    /// async fn echo(mut ctx: Context) {
    ///     while let Some(batch) = ctx.recv_batch().await {
    ///         if let Some(sender) = batch.origin().client().cloned() {
    ///             ctx.send_to(&sender, batch);
    ///         }
    ///     }
    /// }
    /// # fn check(_: impl busline::Service) {}
    /// # check(echo);
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn recv_batch(&mut self) -> Option<Batch> {
        poll_fn(|cx| self.poll_recv_batch(cx)).await
    }

    /// Waits for the next message of a client, or for the time `at`.
    ///
    /// A deadline that has passed comes before a waiting message, so that no client can delay it by
    /// sending without pause; both come before the stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn next_until(&mut self, at: Instant) -> Next {
        let mut sleep = self.clock.sleep_until(at);
        poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Next::Elapsed),
            Poll::Pending => self
                .poll_recv(cx)
                .map(|m| m.map_or(Next::Stopped, Next::Message)),
        })
        .await
    }

    /// Waits for `wait`, or until the last client has left: then it returns `None`, and the service
    /// should return soon.
    ///
    /// Messages that clients send meanwhile wait in the inbox; when the inbox is full, the clients'
    /// sockets are not read.
    pub async fn sleep(&mut self, wait: Duration) -> Option<()> {
        let mut sleep = self.clock.sleep_until(self.now() + wait);
        poll_fn(|cx| match self.stop.poll_raised(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => sleep.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Sends a message or a batch to every client of this service, and returns the number of
    /// clients.
    ///
    /// Never waits; a client that is too slow loses its oldest unread messages. [`Batch::join`]
    /// joins several messages of the service's own.
    pub fn publish(&self, messages: impl Into<Batch>) -> usize {
        self.to_all.publish(self.stamped(messages.into()))
    }

    /// Sends a message or a batch to the client that sent `to`, over a topic of its own.
    ///
    /// Returns the number of subscribers that got it: 0 if the client has left or no client sent
    /// `to`.
    pub fn reply(&self, to: &Message, messages: impl Into<Batch>) -> usize {
        to.sender()
            .map_or(0, |sender| self.send_to(sender, messages))
    }

    /// Sends a message or a batch to one client, over a topic of its own. A service that answers
    /// later keeps a [`Sender`], which takes less memory than a message.
    ///
    /// Returns the number of subscribers that got it: 0 if the client has left.
    pub fn send_to(&self, to: &Sender, messages: impl Into<Batch>) -> usize {
        self.bus.publish(to.topic(), self.stamped(messages.into()))
    }

    /// The present instant of the runtime's clock, for deadlines.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The present date and time.
    pub fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    /// The number of messages that this run has lost, because a publisher on its inbox did not wait
    /// for room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Stamps messages with this run as the origin, and with the present time.
    fn stamped(&self, mut batch: Batch) -> Batch {
        if planted::is(Bug::PublishedShort) && batch.len() > 1 {
            batch = batch.split_front(batch.len() - 1);
        }
        batch.stamped(Origin::Service(self.generation), self.clock.now())
    }

    fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Message>> {
        self.poll_inbox(cx, |inbox, cx| {
            inbox.poll_recv(cx).map(|received| match received {
                Received::Message(message) => Ok(message),
                Received::Lagged(lost) => Err(lost),
            })
        })
    }

    fn poll_recv_batch(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Batch>> {
        self.poll_inbox(cx, Subscription::poll_batch)
    }

    /// Polls `next` on the inbox and counts losses. Polls for the stop only once the inbox is
    /// empty.
    fn poll_inbox<T>(
        &mut self,
        cx: &mut std::task::Context<'_>,
        next: impl Fn(&mut Subscription, &mut std::task::Context<'_>) -> Poll<Result<T, u64>>,
    ) -> Poll<Option<T>> {
        let is_hasty = planted::is(Bug::InboxLeftUnread);
        if is_hasty && self.stop.poll_raised(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            match next(&mut self.inbox, cx) {
                Poll::Ready(Ok(next)) => return Poll::Ready(Some(next)),
                Poll::Ready(Err(lost)) => self.lost += lost,
                Poll::Pending => return self.stop.poll_raised(cx).map(|()| None),
            }
        }
    }
}
