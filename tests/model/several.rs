//! Clients that are in several rooms over one connection, on sockets driven by hand.
//!
//! No subprotocol of the server asks for a second room; the session's owner does so here.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as Cx, Poll, Waker};

use busline::bus::{MessageBus, Room, Topic};
use busline::rt::Spawn;
use busline::session::{Admission, Cause, MembershipError, Session, Wish};
use busline::{App, Peer as Who};
use futures::FutureExt;

use crate::model::crowd::Crowd;
use crate::model::executor::Manual;
use crate::model::peer::{Peer, Socket};

/// An order to a session, which it carries out before it is polled next.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Join(Room, Wish),
    Leave(Room),
}

/// The result of an order.
pub(crate) type Done = Result<bool, MembershipError>;

/// A client whose session takes orders; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Member {
    pub(crate) peer: Peer,
    orders: Arc<Mutex<Orders>>,
}

#[derive(Default)]
struct Orders {
    waiting: VecDeque<Order>,
    done: Vec<Done>,
    ended: Option<Cause>,
    task: Option<Waker>,
}

/// The task of such a client.
struct Driven {
    session: Session<Socket, Manual>,
    who: Who,
    member: Member,
}

impl Future for Driven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let this = &mut *self;
        while let Some(order) = this.member.next(cx) {
            let done = match order {
                Order::Join(room, wish) => this.join(&room, wish),
                Order::Leave(room) => Ok(this.session.leave(&room)),
            };
            this.member.orders().done.push(done);
        }
        let polled = this.session.poll_unpin(cx);
        polled.map(|cause| {
            this.member.orders().ended = Some(cause);
        })
    }
}

impl Driven {
    fn join(&mut self, room: &Room, wish: Wish) -> Done {
        self.session.join(room, &self.who, wish).map(|()| true)
    }
}

impl Member {
    /// A client that is admitted so, with a socket of so many bytes.
    pub(crate) fn of(crowd: &Crowd, admission: Admission<Manual>, who: Who, bytes: usize) -> Self {
        let member = Self::default();
        member.peer.make_room(bytes);
        let driven = Driven {
            session: Session::new(admission, member.peer.socket()),
            who,
            member: member.clone(),
        };
        crowd.rt.spawn(driven.boxed());
        member
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().expect("no panic under this lock")
    }

    /// The next order; the task is woken for those that follow.
    fn next(&self, cx: &Cx<'_>) -> Option<Order> {
        let mut orders = self.orders();
        orders.task = Some(cx.waker().clone());
        orders.waiting.pop_front()
    }

    /// Gives an order; the session has carried it out once the tasks are at rest.
    pub(crate) fn order(&self, order: Order) {
        let mut orders = self.orders();
        orders.waiting.push_back(order);
        let task = orders.task.take();
        drop(orders);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The results since the last call.
    pub(crate) fn done(&self) -> Vec<Done> {
        std::mem::take(&mut self.orders().done)
    }

    /// The cause for which its session has ended.
    pub(crate) fn ended(&self) -> Option<Cause> {
        self.orders().ended.clone()
    }
}

/// A room or a service by its name, as channels write it.
pub(crate) fn room(app: &App<Manual>, name: &str) -> Room {
    let (kind, key) = match name.split_once(':') {
        Some((kind, key)) => (kind, Some(key)),
        None => (name, None),
    };
    app.registry().room(kind, key).expect("it is there")
}

/// Publishes a text to all clients of a room.
pub(crate) fn publish(app: &App<Manual>, name: &str, text: &str) {
    let topic = Topic::from_service_to_ws(room(app, name));
    app.bus().publish(&topic, text.into());
}
