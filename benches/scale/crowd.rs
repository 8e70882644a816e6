//! Clients of services, each with a session, on a runtime of one thread as a server has it.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use busline::limits::KeepalivePolicy;
use busline::rt::{Spawn, Tokio};
use busline::session::{Admission, Plain, Session};
use busline::{App, Limits, Service};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::pipe::{Pipe, Tally};
use crate::{STRIDE, Turn};

/// One thread's tasks: what they belong to is dropped with it.
pub(crate) struct Place {
    rt: Tokio,
    runtime: Runtime,
}

impl Place {
    pub(crate) fn new() -> Rc<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        let entered = runtime.enter();
        Tokio::start_worker().expect("there are descriptors");
        let rt = Tokio::current();
        drop(entered);
        Rc::new(Self { rt, runtime })
    }

    /// Runs this and all that it sets off, to its end.
    fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        let (done, is_done) = oneshot::channel();
        self.rt.spawn(Box::pin(async move {
            future.await;
            done.send(()).expect("somebody waits for it");
        }));
        self.runtime.block_on(is_done).expect("it does not panic");
    }
}

/// How many there are of what.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) clients: usize,
}

/// What its clients do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) turn: Turn,
    /// Messages under way, each of another client.
    pub(crate) at_once: usize,
    /// Clients that each message reaches.
    pub(crate) reach: usize,
}

/// Connected clients, spread evenly over the services.
pub(crate) struct Crowd {
    place: Rc<Place>,
    clients: Arc<[Pipe]>,
    tally: Tally,
    /// Who is next.
    next: Cell<usize>,
}

impl Crowd {
    pub(crate) fn new(place: &Rc<Place>, size: Size, service: impl Service + Copy) -> Self {
        let entered = place.runtime.enter();
        let app = app(&place.rt, size.services, service);
        let tally = Tally::default();
        let connect = |client| connect(&app, &name(client % size.services), &tally);
        let clients = (0..size.clients).map(connect).collect();
        drop(entered);
        Self {
            place: Rc::clone(place),
            clients,
            tally,
            next: Cell::new(0),
        }
    }

    /// Sends until so many messages are delivered, or some more; returns how many.
    pub(crate) fn run(&self, plan: Plan, deliveries: usize) -> usize {
        let count = self.clients.len();
        let each = plan.at_once * plan.reach;
        let times = deliveries.div_ceil(each);
        let first = match plan.turn {
            Turn::Each => self.next.get(),
            Turn::Same => 0,
        };
        let sent = times * plan.at_once;
        self.next.set((first + sent * STRIDE) % count);
        let (clients, tally) = (Arc::clone(&self.clients), self.tally.clone());
        self.place.run(async move {
            let mut next = first;
            for _ in 0..times {
                tally.owe(each);
                for _ in 0..plan.at_once {
                    clients[next].send();
                    next = match plan.turn {
                        Turn::Each => (next + STRIDE) % count,
                        Turn::Same => (next + 1) % plan.at_once,
                    };
                }
                poll_fn(|cx| tally.poll_all(cx)).await;
            }
        });
        times * each
    }
}

/// An application with so many services that are the same.
fn app(rt: &Tokio, services: usize, service: impl Service + Copy) -> App<Tokio> {
    let limits = Limits {
        // Whether a client is still there is asked by the clock, and not for a message.
        keepalive: KeepalivePolicy {
            interval: std::time::Duration::ZERO,
            ..KeepalivePolicy::default()
        },
        ..Limits::default()
    };
    let mut builder = App::builder(rt.clone()).limits(limits);
    for number in 0..services {
        builder = builder.service(&name(number), service).expect("a new name");
    }
    builder.build()
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

/// A client with a session of its own.
fn connect(app: &App<Tokio>, service: &str, tally: &Tally) -> Pipe {
    let pipe = Pipe::new(tally);
    let admission = Admission::request(app, service).expect("it may join");
    let session = Session::new(admission, Plain(pipe.clone()));
    app.rt().spawn(Box::pin(async move {
        let cause = session.await;
        unreachable!("a client has left: {cause}");
    }));
    pipe
}
