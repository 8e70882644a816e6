//! What a running service sees of the world.

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

/// One run of a service: its inbox, its clients' topics, and time.
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

/// What [`Context::next_until`] came to first.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The time is reached.
    Elapsed,
    /// A client sent this.
    Message(Message),
    /// The last client has left and there are no more messages: return soon.
    Stopped,
}

/// What the registry makes an instance's [`Context`] from.
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

    /// Which run of the service this is: 1 for the first.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The next message of a client, or `None` once the last client has left and everything that
    /// clients had sent is received: then return soon, you are aborted after the grace.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next messages of a client that came together, at least one: a batch is received and
    /// published for less than its messages one after the other. `None` as [`recv`](Self::recv)
    /// returns it.
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

    /// The next message of a client, if there is one before `at`.
    ///
    /// A deadline that has passed comes before a message that is there, so that no client can delay
    /// it by sending without pause; both come before the stop.
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

    /// Waits this long, or until the last client has left: then `None`, return soon.
    ///
    /// What clients send meanwhile waits in the inbox; when that is full, their sockets wait.
    pub async fn sleep(&mut self, wait: Duration) -> Option<()> {
        let mut sleep = self.clock.sleep_until(self.now() + wait);
        poll_fn(|cx| match self.stop.poll_raised(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => sleep.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Sends a message, or a batch of them, to every client of this service, and returns how many
    /// clients there are.
    ///
    /// It never waits; a client that is too slow loses its oldest unread messages. Several messages
    /// of the service's own are joined by [`Batch::join`].
    pub fn publish(&self, messages: impl Into<Batch>) -> usize {
        self.to_all.publish(self.stamped(messages.into()))
    }

    /// Sends a message, or a batch, to the one client that sent `to`, over a topic of its own.
    ///
    /// Returns how many subscribers got it: 0 if the client has left or no client sent `to`.
    pub fn reply(&self, to: &Message, messages: impl Into<Batch>) -> usize {
        to.sender()
            .map_or(0, |sender| self.send_to(sender, messages))
    }

    /// Sends a message, or a batch, to one client, over a topic of its own; a [`Sender`] is kept at
    /// less cost than a message of it.
    ///
    /// Returns how many subscribers got it: 0 if the client has left.
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

    /// Messages of clients that this run has lost, because others published on its inbox without
    /// waiting for room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The messages as this run publishes them now.
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

    /// Polls for what `next` takes out of the inbox, counts losses, and looks for the stop once the
    /// inbox is empty.
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
