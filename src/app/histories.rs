//! The histories of an application: their place in its bus, and the task that frees what is over.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, select};

use super::App;
use crate::bus::{
    Histories, HistoryError, InMemoryMessageBus, Moment, Page, Reading, Room, ServiceName, Topic,
};
use crate::limits::{Limits, ServicePolicy};
use crate::rt::{Instant, Runtime};

/// The most expired messages and old positions that are freed before other tasks run.
const FREED_AT_ONCE: usize = 1_000;

/// The shortest wait between two rounds, so that messages that expire one after the other are freed
/// together.
const ROUND: Duration = Duration::from_secs(1);

/// The longest wait: a history that is made meanwhile may expire sooner than all before it.
const ROUND_MAX: Duration = Duration::from_secs(10);

impl<R: Runtime> App<R> {
    /// Reads from the history of a room.
    pub(crate) fn history(&self, room: &Room, reading: &Reading) -> Result<Page, HistoryError> {
        self.bus()
            .history(&Topic::from_service_to_ws(room), reading)
    }
}

/// Ends the task that frees what is over, when dropped.
pub(super) type Sweeper = oneshot::Sender<()>;

/// Makes the bus of an application, with the windows and the histories of its services.
pub(super) fn bus<R: Runtime>(
    rt: &R,
    limits: &Limits,
    policies: &BTreeMap<ServiceName, ServicePolicy>,
) -> InMemoryMessageBus {
    let of = |name: &ServiceName| name.clone();
    let windows = policies.iter();
    let windows = windows.filter_map(|(name, policy)| Some((of(name), policy.window?)));
    let kinds = policies.iter();
    let kinds = kinds.filter_map(|(name, policy)| Some((of(name), policy.history?.retention)));
    let (windows, kinds): (_, BTreeMap<_, _>) = (windows.collect(), kinds.collect());
    let (window, topics) = (limits.window, limits.topics);
    if kinds.is_empty() {
        return InMemoryMessageBus::with_windows(window, windows, topics);
    }
    let (clock, random) = (rt.clone(), rt.clone());
    let histories = Histories {
        kinds,
        limits: limits.history,
        now: StdArc::new(move || Moment {
            at: clock.now(),
            wall: clock.wall(),
        }),
        random: StdArc::new(move || random.random()),
    };
    InMemoryMessageBus::with_histories(window, windows, topics, histories)
}

/// Lets other tasks run.
async fn yield_once() {
    let mut is_polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Spawns the task that frees expired messages and old positions of a bus with histories.
pub(super) fn sweep<R: Runtime>(rt: &R, bus: &InMemoryMessageBus) -> Sweeper {
    let (alive, ended) = oneshot::channel();
    let (clock, bus) = (rt.clone(), bus.clone());
    let task = async move {
        let mut ended = ended;
        loop {
            // A room may get a history at any time, so the next look has a bound.
            let due = bus.expire(FREED_AT_ONCE).unwrap_or(Instant::END);
            let now = clock.now();
            let wait = if due <= now {
                yield_once().boxed()
            } else {
                let at = due.max(now + ROUND).min(now + ROUND_MAX);
                clock.sleep_until(at)
            };
            match select(ended, wait).await {
                Either::Left(_) => return,
                Either::Right(((), rest)) => ended = rest,
            }
        }
    };
    rt.spawn(task.boxed());
    alive
}
