//! The interface of a running service to its surroundings.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use super::Stop;
use super::event::{Event, NextEvent};
use super::members::Members;
use crate::bus::{
    Batch, Client, Delivery, EndError, Generation, Message, MessageBus, Origin, Position,
    Publisher, Room, ServiceName, Subscription, Topic,
};
use crate::planted::{self, Bug};
use crate::rt::{Clock, Instant, Random};
use crate::sync::Arc;
use crate::wire::{CloseCode, CloseFrame};

/// A run of a service: its inbox, its clients' topics, and time.
pub struct Context {
    room: Room,
    generation: Generation,
    inbox: Subscription,
    /// `None` in a service that does not know its clients.
    members: Option<Arc<Members>>,
    to_all: Publisher,
    stop: Stop,
    bus: StdArc<dyn MessageBus>,
    rt: StdArc<dyn ServiceRuntime>,
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

/// The part of a runtime that a service uses.
pub(crate) trait ServiceRuntime: Clock + Random {}

impl<R: Clock + Random> ServiceRuntime for R {}

/// The values from which the registry makes an instance's [`Context`].
pub(crate) struct Seed {
    pub(crate) room: Room,
    pub(crate) generation: Generation,
    pub(crate) inbox: Subscription,
    pub(crate) members: Option<Arc<Members>>,
    pub(crate) stop: Stop,
}

impl Context {
    pub(crate) fn new(
        seed: Seed,
        bus: StdArc<dyn MessageBus>,
        rt: StdArc<dyn ServiceRuntime>,
    ) -> Self {
        Self {
            to_all: bus.publisher(&Topic::from_service_to_ws(&seed.room)),
            room: seed.room,
            generation: seed.generation,
            inbox: seed.inbox,
            members: seed.members,
            stop: seed.stop,
            bus,
            rt,
            lost: 0,
        }
    }

    /// The name of the service, or of the kind of the room.
    pub fn service(&self) -> &ServiceName {
        self.room.kind()
    }

    /// The room that this run serves; a service is a room without a key.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// The key of the room: `42` of `/ws/chat/42`; empty for a service.
    pub fn key(&self) -> &str {
        self.room.key()
    }

    /// The number of this run: 1 for the first of a service. The numbers of the runs of one room
    /// rise, also over the room's removal and return, but may leave some out.
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

    /// Waits for the next event of the room: a client has come, sent a message, or left. Returns
    /// `None` when [`recv`](Self::recv) does, once all events are received.
    ///
    /// Events and messages are in one order. A client's [`Event::Joined`] comes before its first
    /// message, its [`Event::Left`] after its last, and each at most once in a run:
    ///
    /// - A client that was there at the start of the run has no `Joined`, also after a crash of the
    ///   run before: [`clients`](Self::clients) lists it. The first client of a room, which starts
    ///   the run, is there at its start.
    /// - A client that came and left before this run was told of it has neither, unless a message
    ///   of it waits.
    /// - A client that comes while this run stops has neither: it is there at the start of the next
    ///   run.
    ///
    /// Rooms know their clients by default, services if
    /// [`ServicePolicy::members`](crate::ServicePolicy::members) says so; the events of others are
    /// their messages alone. A call of another method that receives leaves out the joins and leaves
    /// that come before the message that it returns, and refuses requests as not available. A
    /// message that no client sent, but another publisher on the bus, is no event, and is counted
    /// by [`lost`](Self::lost).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn event(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for the next [`event`](Self::event), or for the time `at`: for loops with a tick.
    ///
    /// A deadline that has passed comes before a waiting event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn event_until(&mut self, at: Instant) -> NextEvent {
        let mut sleep = self.rt.sleep_until(at);
        poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(NextEvent::Elapsed),
            Poll::Pending => self
                .poll_event(cx)
                .map(|event| event.map_or(NextEvent::Stopped, NextEvent::Event)),
        })
        .await
    }

    /// The clients that are there, in the order of their admission, as far as the events received
    /// so far tell: those that were there at the start of the run, and those that have joined
    /// since, without those that have left. Empty in a service that does not know its clients.
    pub fn clients(&self) -> Vec<Client> {
        let members = self.members.as_ref();
        members.map(|members| members.clients()).unwrap_or_default()
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
        let mut sleep = self.rt.sleep_until(at);
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
        let mut sleep = self.rt.sleep_until(self.now() + wait);
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
    /// later keeps a [`Client`], which takes less memory than a message.
    ///
    /// Returns the number of subscribers that got it: 0 if the client has left.
    ///
    /// In a room, and in any service that knows its [`members`](crate::ServicePolicy::members), a
    /// client receives what is sent to it and what is published to all in the order in which the
    /// service said it.
    pub fn send_to(&self, to: &Client, messages: impl Into<Batch>) -> usize {
        let delivery = Delivery::After(self.said_to_all());
        let batch = self.stamped(messages.into()).delivered(delivery);
        self.bus.publish(to.topic(), batch)
    }

    /// Sends a message or a batch to every client of this service but one, such as the one that
    /// said it, and returns the number of clients, the one included.
    pub fn publish_except(&self, client: &Client, messages: impl Into<Batch>) -> usize {
        let delivery = Delivery::Except(client.id());
        let batch = self.stamped(messages.into()).delivered(delivery);
        self.to_all.publish(batch)
    }

    /// Ends the stream of this room, with JSON as the data of the end, such as `null`; returns the
    /// position of the end in the history.
    ///
    /// Clients receive all messages before, then the end, and are closed with the code 1000; the
    /// service stops with the last of them, and may return at once. The room takes no further
    /// message; see [`RoomHandle::end`](crate::app::RoomHandle::end).
    ///
    /// # Errors
    ///
    /// When the kind has no history, the stream has ended before, or the data are no JSON or have
    /// more than [`END_BYTES_MAX`](crate::bus::END_BYTES_MAX) bytes.
    pub fn end(&self, data: &str) -> Result<Position, EndError> {
        self.to_all.end(self.stamped(data.into()))
    }

    /// Closes the session of a client with this code and this reason, of at most 123 bytes; longer
    /// reasons are cut. Messages that were said to the client before arrive first.
    ///
    /// Codes from 3000 to 4999 are for services; 1000 is a normal end, and stands for a code that
    /// no close frame may carry (RFC 6455, section 7.4). The client counts as there until
    /// [`Event::Left`] tells of its end. Returns whether the client was still there.
    pub fn close(&self, client: &Client, code: u16, reason: &str) -> bool {
        let frame = CloseFrame::new(CloseCode::new(code).or_normal(), reason);
        let delivery = Delivery::Close(self.said_to_all(), StdArc::new(frame));
        // An entry of a topic has a message, which is not sent.
        let batch = self.stamped(Batch::from("")).delivered(delivery);
        self.bus.publish(client.topic(), batch) > 0
    }

    /// The offset behind what was published to all so far; 0 where the order of messages to one
    /// client and to all is not kept.
    fn said_to_all(&self) -> u64 {
        match self.members {
            Some(_) => planted::none(Bug::DirectOvertakes, self.to_all.tail()),
            None => 0,
        }
    }

    /// The present instant of the runtime's clock, for deadlines.
    pub fn now(&self) -> Instant {
        self.rt.now()
    }

    /// The present date and time.
    pub fn wall(&self) -> SystemTime {
        self.rt.wall()
    }

    /// A random number, drawn evenly: in the simulator from the seed of the run, so that the run
    /// can be repeated.
    pub fn random(&self) -> u64 {
        self.rt.random()
    }

    /// The number of messages that this run has lost, because a publisher on its inbox did not wait
    /// for room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The bus of the application.
    pub(super) fn bus(&self) -> &dyn MessageBus {
        &*self.bus
    }

    /// The topic to every client.
    pub(super) fn to_all(&self) -> &Topic {
        self.to_all.topic()
    }

    /// Stamps messages with this run as the origin, and with the present time.
    fn stamped(&self, mut batch: Batch) -> Batch {
        if planted::is(Bug::PublishedShort) && batch.len() > 1 {
            batch = batch.split_front(batch.len() - 1);
        }
        batch.stamped(Origin::Service(self.generation), self.rt.now())
    }

    fn poll_event(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Event>> {
        let mut is_stopped = false;
        loop {
            // The inbox first: the join of a client is noted before its first message is there.
            let is_empty = self.inbox.poll_ready(cx).is_pending();
            if let Poll::Ready(event) = self.poll_change(cx) {
                return Poll::Ready(Some(event));
            }
            if is_empty {
                if is_stopped {
                    return Poll::Ready(None);
                }
                // The last client may have said something and left since the look at inbox and
                // roster, so both are looked at once more.
                ready!(self.stop.poll_raised(cx));
                is_stopped = true;
                continue;
            }
            match self.inbox.poll_message(cx) {
                Poll::Ready(Ok(batch)) => match Event::of(batch) {
                    Some(event) => return Poll::Ready(Some(event)),
                    None => self.lost += 1,
                },
                Poll::Ready(Err(lost)) => self.lost += lost,
                Poll::Pending => {}
            }
        }
    }

    /// Polls for the next join or leave that comes before the next message.
    fn poll_change(&self, cx: &mut std::task::Context<'_>) -> Poll<Event> {
        let Some(members) = &self.members else {
            return Poll::Pending;
        };
        let told = members.poll_next(cx, self.inbox.next_offset());
        told.map(Event::from)
    }

    /// Leaves out the joins and leaves that come before the next message.
    fn skip_changes(&self) {
        if let Some(members) = &self.members {
            while members.next(self.inbox.next_offset()).is_some() {}
        }
    }

    fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Message>> {
        self.skip_changes();
        let received = self.poll_inbox(cx, Subscription::poll_message);
        received.map(|batch| batch.map(Batch::into_message))
    }

    fn poll_recv_batch(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Batch>> {
        self.skip_changes();
        self.poll_inbox(cx, Subscription::poll_batch)
    }

    /// Polls the inbox for messages that are no requests, and counts losses. Polls for the stop
    /// only once the inbox is empty.
    fn poll_inbox(
        &mut self,
        cx: &mut std::task::Context<'_>,
        next: fn(&mut Subscription, &mut std::task::Context<'_>) -> Poll<Result<Batch, u64>>,
    ) -> Poll<Option<Batch>> {
        let is_hasty = planted::is(Bug::InboxLeftUnread);
        if is_hasty && self.stop.poll_raised(cx).is_ready() {
            return Poll::Ready(None);
        }
        let mut is_stopped = false;
        loop {
            match next(&mut self.inbox, cx) {
                Poll::Ready(Ok(batch)) => match batch.question() {
                    Some(question) => question.not_served(),
                    None => return Poll::Ready(Some(batch)),
                },
                Poll::Ready(Err(lost)) => self.lost += lost,
                Poll::Pending if is_stopped => return Poll::Ready(None),
                Poll::Pending => {
                    // The last client may have said something and left since the look at the inbox.
                    ready!(self.stop.poll_raised(cx));
                    is_stopped = true;
                }
            }
        }
    }
}
