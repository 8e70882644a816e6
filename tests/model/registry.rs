//! The registry over a runtime driven by hand: the leases are the reference count, whatever
//! happens.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use busline::app::App;
use busline::limits::LifecyclePolicy;
use busline::registry::{JoinError, Lease, Refusal, ServiceStatus, State, Status};
use busline::rt::{Clock, Spawn};
use busline::{Context, Limits};
use futures::FutureExt;

use super::bytes::Bytes;
use super::executor::Manual;

/// Something that happens to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// So many hundredths of a second pass.
    Advance(u8),
    Drain,
    Join,
    Leave(u8),
    /// One task that is ready runs.
    Run(u8),
    /// The instance, this one or the next, does something of its own.
    Tell(Order),
    /// A client waits for another status than the present one.
    Wait(u8),
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Returns an error, once.
    Fail,
    /// Does not return when it is told to stop.
    Hang,
    /// Returns when it is told to stop.
    Obey,
    /// Returns, once.
    Return,
}

impl Op {
    /// The next operation of a fuzzer's bytes.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(match bytes.below(8)? {
            0 => Self::Advance(bytes.next()?),
            1 if bytes.below(8)? == 0 => Self::Drain,
            1 | 2 => Self::Join,
            3 => Self::Leave(bytes.next()?),
            4 | 5 => Self::Run(bytes.next()?),
            6 => Self::Wait(bytes.next()?),
            _ => Self::Tell(match bytes.below(4)? {
                0 => Order::Fail,
                1 => Order::Hang,
                2 => Order::Return,
                _ => Order::Obey,
            }),
        })
    }
}

/// The body of the fuzz target: a byte of linger, then operations.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(linger) = bytes.below(3) else {
        return;
    };
    let ops: Vec<_> = std::iter::from_fn(|| Op::read(&mut bytes)).collect();
    run(Duration::from_millis(u64::from(linger) * 500), &ops);
}

/// Applies the operations and checks the invariants after each, then lets everything end.
pub(crate) fn run(linger: Duration, ops: &[Op]) {
    let mut world = World::new(linger);
    for op in ops {
        world.apply(*op);
        world.check();
    }
    world.end();
}

struct World {
    rt: Manual,
    app: App<Manual>,
    clients: Vec<Client>,
    script: Arc<Mutex<Script>>,
    running: Arc<AtomicUsize>,
    draining: bool,
}

struct Client {
    lease: Lease<Manual>,
    /// The status it has seen, if it waits for another one.
    waits: Option<(Status, Arc<Woken>)>,
}

impl Client {
    /// Parks until the status is another one than the present.
    fn wait(&mut self) {
        let seen = self.lease.status();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let polled = self
            .lease
            .poll_status(&mut TaskContext::from_waker(&waker), seen);
        assert_eq!(polled, Poll::Pending, "nothing has changed");
        self.waits = Some((seen, woken));
    }

    /// Who waits is woken when there is something to see, and then sees it.
    fn check_woken(&mut self) {
        let status = self.lease.status();
        let Some((seen, woken)) = self.waits.take_if(|(seen, _)| *seen != status) else {
            return;
        };
        assert!(
            woken.0.load(Ordering::SeqCst),
            "asleep at {seen:?}, {status:?} now"
        );
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert_eq!(self.lease.poll_status(&mut cx, seen), Poll::Ready(status));
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Script {
    order: Order,
    instance: Option<Waker>,
}

impl World {
    fn new(linger: Duration) -> Self {
        let rt = Manual::default();
        let script = Arc::new(Mutex::new(Script {
            order: Order::Obey,
            instance: None,
        }));
        let running = Arc::new(AtomicUsize::new(0));
        let (scripted, counted) = (Arc::clone(&script), Arc::clone(&running));
        let service = move |ctx| {
            let running = Running::new(&counted);
            let script = Arc::clone(&scripted);
            async move {
                let result = instance(ctx, script).await;
                drop(running);
                result
            }
        };
        let app = App::builder(rt.clone())
            .limits(Limits::default())
            .lifecycle(LifecyclePolicy {
                linger,
                ..LifecyclePolicy::default()
            })
            .service("s", service)
            .expect("a valid name")
            .build();
        Self {
            rt,
            app,
            clients: Vec::new(),
            script,
            running,
            draining: false,
        }
    }

    fn status(&self) -> ServiceStatus {
        self.app.registry().status("s").expect("registered")
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Advance(hundredths) => {
                self.rt
                    .advance(Duration::from_millis(u64::from(hundredths) * 10));
                self.check_nothing_is_overdue();
            }
            Op::Drain => {
                self.draining = true;
                self.app.drain();
            }
            Op::Join => self.join(),
            Op::Leave(choice) => {
                if !self.clients.is_empty() {
                    let index = usize::from(choice) % self.clients.len();
                    let Client { lease, waits } = self.clients.swap_remove(index);
                    drop(lease);
                    let wakers = waits.map_or(1, |(_, woken)| Arc::strong_count(&woken));
                    assert_eq!(wakers, 1, "it waits although it has left");
                }
            }
            Op::Run(choice) => {
                self.rt.run_one(usize::from(choice));
            }
            Op::Tell(order) => self.tell(order),
            Op::Wait(choice) => {
                if !self.clients.is_empty() {
                    let index = usize::from(choice) % self.clients.len();
                    self.clients[index].wait();
                }
            }
        }
    }

    fn tell(&self, order: Order) {
        let mut script = self.script.lock().expect("no panic under this lock");
        script.order = order;
        let instance = script.instance.take();
        drop(script);
        if let Some(instance) = instance {
            instance.wake();
        }
    }

    fn join(&mut self) {
        let failed = matches!(self.status().state, State::Failed { .. });
        match self.app.registry().join("s") {
            Ok(lease) => {
                assert!(
                    !self.draining && !failed,
                    "a lease that should have been refused"
                );
                self.clients.push(Client { lease, waits: None });
            }
            Err(JoinError::Refused(Refusal::Draining)) => assert!(self.draining),
            Err(JoinError::Refused(Refusal::Failed { .. })) => assert!(failed && !self.draining),
            Err(error) => panic!("the service has no other reason: {error}"),
        }
    }

    fn check(&mut self) {
        let status = self.status();
        assert_eq!(
            status.clients,
            self.clients.len(),
            "the leases are the reference count"
        );
        let alive = status.counts.starts - status.counts.exits;
        assert!(alive <= 1, "more than one instance");
        assert!(
            self.running.load(Ordering::SeqCst) as u64 <= alive,
            "one that was given up runs"
        );
        let has_instance = match status.state {
            State::Running | State::Lingering { .. } | State::Stopping { .. } => true,
            State::Backoff { .. } | State::Failed { .. } | State::Stopped => false,
        };
        assert_eq!(has_instance, alive == 1);
        assert_eq!(status.is_idle(), self.clients.is_empty() && alive == 0);
        let instances = self.app.bus().counts().subscriptions;
        assert!(instances as u64 <= alive, "an inbox without its instance");
        for client in &mut self.clients {
            client.check_woken();
            let lease = &client.lease;
            let expected = match status.state {
                State::Running | State::Lingering { .. } if self.draining => {
                    Status::Draining(Some(status.generation))
                }
                _ if self.draining => Status::Draining(None),
                State::Failed { .. } => Status::Failed,
                State::Running | State::Lingering { .. } => Status::Running(status.generation),
                State::Backoff { .. } | State::Stopped | State::Stopping { .. } => Status::Waiting,
            };
            assert_eq!(lease.status(), expected);
            if let Status::Running(generation) = expected {
                assert!(lease.since() <= generation, "served by an older instance");
            }
        }
    }

    /// Once all tasks have run, no state outlives its deadline.
    fn check_nothing_is_overdue(&self) {
        let until = match self.status().state {
            State::Backoff { until } | State::Failed { until } | State::Lingering { until } => {
                until
            }
            State::Stopping { until: Some(until) } => until,
            State::Running | State::Stopped | State::Stopping { until: None } => return,
        };
        assert!(until > self.rt.now(), "overdue: {:?}", self.status());
    }

    /// Everybody leaves and time passes: nothing is left, even of an instance that hangs.
    fn end(mut self) {
        self.app.drain();
        self.draining = true;
        self.check();
        self.clients.clear();
        // If it is not woken, it is a task that is left.
        let app = self.app.clone();
        self.rt.spawn(async move { app.drained().await }.boxed());
        for _ in 0..3 {
            self.rt.advance(Duration::from_secs(200));
        }
        self.check();
        assert!(self.status().is_idle());
        assert_eq!(self.running.load(Ordering::SeqCst), 0);
        assert_eq!(
            (self.rt.tasks(), self.rt.timers()),
            (0, 0),
            "tasks or timers were left"
        );
        assert_eq!(self.app.bus().counts().topics, 0);
    }
}

/// Counts an instance while it exists, and sees that it is alone.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        assert_eq!(
            count.fetch_add(1, Ordering::SeqCst),
            0,
            "two instances at once"
        );
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One run of the service, as the script says.
async fn instance(mut ctx: Context, script: Arc<Mutex<Script>>) -> Result<(), &'static str> {
    let mut recv = pin!(async { while ctx.recv().await.is_some() {} });
    let mut stopped = false;
    poll_fn(|cx| {
        let mut script = script.lock().expect("no panic under this lock");
        script.instance = Some(cx.waker().clone());
        match script.order {
            Order::Fail => {
                script.order = Order::Obey;
                return Poll::Ready(Err("as told"));
            }
            Order::Return => {
                script.order = Order::Obey;
                return Poll::Ready(Ok(()));
            }
            Order::Hang | Order::Obey => {}
        }
        let hangs = script.order == Order::Hang;
        drop(script);
        stopped = stopped || recv.as_mut().poll(cx).is_ready();
        if stopped && !hangs {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}
