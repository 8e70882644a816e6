//! What a running service sees of the world.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use super::Stop;
use super::inbox::Inbox;
use crate::bus::{
    Batch, Generation, Message, MessageBus, Origin, Parcel, Publisher, Received, Refill, Sender,
    ServiceName, Subscription, Topic,
};
use crate::planted::{self, Bug};
use crate::rt::{Clock, Instant};

/// One run of a service: its inbox, its clients' topics, and time.
pub struct Context {
    service: ServiceName,
    generation: Generation,
    inbox: Inbox,
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
            inbox: Inbox::new(seed.inbox),
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

    /// What one client has said together, and who has said it: its next message, and those that
    /// came with it or are the next ones as well. `None` as [`recv`](Self::recv) returns it.
    ///
    /// No more than its inbox holds. The messages themselves name nobody. For a service that does
    /// less for several messages at once than for one after the other:
    ///
    /// ```
    /// # use busline::Context;
    /// async fn echo(mut ctx: Context) {
    ///     while let Some((origin, said)) = ctx.recv_batch().await {
    ///         if let Some(sender) = origin.client() {
    ///             ctx.send_batch(sender, said);
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
    pub async fn recv_batch(&mut self) -> Option<(Origin, Batch)> {
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

    /// Sends a message to every client of this service, and returns how many that are.
    ///
    /// It never waits; a client that is too slow loses its oldest unread messages.
    pub fn publish(&self, message: impl Into<Message>) -> usize {
        self.to_all.publish(self.stamped(message.into()))
    }

    /// Sends these to every client, the oldest first: as [`publish`](Self::publish) does one after
    /// the other, at less cost.
    ///
    /// Returns how many clients that are, 0 for no messages.
    pub fn publish_batch(&self, messages: impl Into<Batch>) -> usize {
        self.to_all
            .publish_batch(self.stamped_batch(messages.into()))
    }

    /// Sends a message to the one client that sent `to`, over a topic of its own.
    ///
    /// Returns how many subscribers got it: 0 if the client has left or no client sent `to`.
    pub fn reply(&self, to: &Message, message: impl Into<Message>) -> usize {
        to.sender()
            .map_or(0, |sender| self.send_to(sender, message))
    }

    /// Sends a message to one client, over a topic of its own; a [`Sender`] is kept at less cost
    /// than a message of it.
    ///
    /// Returns how many subscribers got it: 0 if the client has left.
    pub fn send_to(&self, to: &Sender, message: impl Into<Message>) -> usize {
        self.bus.reply(to, self.stamped(message.into()))
    }

    /// Sends these to one client, the oldest first: as [`send_to`](Self::send_to) does one after
    /// the other, at less cost.
    ///
    /// Returns how many subscribers got them: 0 if the client has left, and for no messages.
    pub fn send_batch(&self, to: &Sender, messages: impl Into<Batch>) -> usize {
        self.bus
            .reply_batch(to, self.stamped_batch(messages.into()))
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

    /// The message as this run publishes it now.
    fn stamped(&self, message: Message) -> Message {
        let origin = Origin::Service(self.generation);
        message.published(origin, self.clock.moment())
    }

    /// The messages as this run publishes them now.
    fn stamped_batch(&self, mut batch: Batch) -> Batch {
        batch.publish(&Origin::Service(self.generation), self.clock.moment());
        batch.truncate(planted::one_less(Bug::PublishedShort, batch.len()));
        batch
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Message>> {
        self.poll_inbox(cx, Inbox::next, |message| message)
    }

    #[inline]
    fn poll_recv_batch(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<(Origin, Batch)>> {
        let alone = |message| Batch::said(Parcel::One(message));
        self.poll_inbox(cx, Inbox::next_batch, alone)
    }

    /// Polls for the `next` of what is taken ahead, or what `alone` makes of a message that cannot
    /// be.
    #[inline]
    fn poll_inbox<T>(
        &mut self,
        cx: &mut std::task::Context<'_>,
        next: impl Fn(&mut Inbox) -> Option<T>,
        alone: impl FnOnce(Message) -> T,
    ) -> Poll<Option<T>> {
        let is_hasty = planted::is(Bug::InboxLeftUnread);
        if is_hasty && self.stop.poll_raised(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            if let Some(next) = next(&mut self.inbox) {
                return Poll::Ready(Some(next));
            }
            match self.inbox.poll_refill(cx) {
                Poll::Ready(Refill::Ahead) => {}
                Poll::Ready(Refill::Received(Received::Lagged(lost))) => self.lost += lost,
                Poll::Ready(Refill::Received(Received::Message(message))) => {
                    return Poll::Ready(Some(alone(message)));
                }
                Poll::Pending => return self.stop.poll_raised(cx).map(|()| None),
            }
        }
    }
}
