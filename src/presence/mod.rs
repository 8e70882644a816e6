//! Presence: the clients that are in a room, as others see them.
//!
//! The clients of a room are those with a lease: there is no second record of them, and none that
//! expires. A join and a leave change the roll with the lease. Clients that follow the joins and
//! leaves subscribe to a topic of their own, on which the room tells them, in the order of the
//! changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc as StdArc;

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};

use self::notices::{Notices, Pace, Told};
use self::roll::{Count, Roll};
use crate::bus::{Batch, ClientId, Message, MessageBus, Room, Topic};
use crate::limits::{HELD_LEAVES_MAX, Keep, PresenceLimits, PresencePolicy};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::sync::{Arc, Mutex, Ordering, Sum};

#[cfg(all(test, feature = "loom"))]
mod models;
mod notice;
mod notices;
mod roll;
mod shown;

pub use self::roll::{Page, Shown};

/// A client as it enters a room.
#[derive(Clone, Debug)]
pub(crate) struct Entering {
    pub(crate) id: ClientId,
    pub(crate) shown: Shown,
    /// Whether the client is told of joins and leaves.
    pub(crate) follows: bool,
}

/// The parts of presence that all rooms of a kind share.
pub(crate) struct Setting<R: Runtime> {
    pub(crate) policy: PresencePolicy,
    pub(crate) limits: PresenceLimits,
    pub(crate) bus: StdArc<dyn MessageBus>,
    pub(crate) rt: R,
    pub(crate) counts: Counts,
}

/// The joins and leaves that rooms have told, over all rooms of a kind.
///
/// Relaxed is enough: readers read figures that change meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Joins and leaves that were told at once.
    pub(crate) at_once: Sum,
    /// Joins and leaves that were told together with others, after a wait.
    pub(crate) together: Sum,
}

impl<R: Runtime> Setting<R> {
    fn pace(&self) -> Pace {
        Pace {
            at_once: self.limits.at_once,
            leave_delay: self.policy.leave_delay,
            // A notice without a client would be told for ever.
            together: self.limits.clients.max(1),
            held: HELD_LEAVES_MAX,
        }
    }
}

/// The clients of one room as others see them, and the notices of their joins and leaves.
pub(crate) struct Presence<R: Runtime> {
    topic: Topic,
    setting: StdArc<Setting<R>>,
    inner: Mutex<Inner>,
}

struct Inner {
    roll: Roll,
    notices: Notices,
    /// The clients that are told of joins and leaves.
    followers: BTreeSet<ClientId>,
    /// The joins and leaves that are to be told, in their order.
    queue: VecDeque<(Told, Option<Count>)>,
    /// Whether a thread tells what is in the queue.
    is_telling: bool,
    timer: Option<Timer>,
}

/// The task that waits for the deadline of the notices.
struct Timer {
    at: Instant,
    abort: AbortHandle,
}

/// The turn of a thread to tell; the next thread has its turn once this is dropped.
struct Turn<'a>(&'a Mutex<Inner>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().is_telling = false;
    }
}

impl Inner {
    fn tell(&mut self, told: Option<Told>, count: Option<Count>) {
        if let Some(told) = told {
            self.queue.push_back((told, count));
        }
    }
}

impl<R: Runtime> Presence<R> {
    /// Makes the presence of a room without clients; `None` in a kind that keeps none.
    pub(crate) fn new(room: &Room, setting: &StdArc<Setting<R>>) -> Option<Arc<Self>> {
        let inner = Inner {
            roll: Roll::default(),
            notices: Notices::new(setting.pace()),
            followers: BTreeSet::new(),
            queue: VecDeque::new(),
            is_telling: false,
            timer: None,
        };
        setting.policy.is_kept().then(|| {
            Arc::new(Self {
                topic: Topic::from_presence_to_ws(room),
                setting: StdArc::clone(setting),
                inner: Mutex::new(inner),
            })
        })
    }

    /// Adds a client; [`tell`](Self::tell) is to be called once no lock is held.
    pub(crate) fn enter(&self, now: Instant, entering: Entering) {
        let Entering { id, shown, follows } = entering;
        let mut inner = self.inner.lock();
        let before = inner.roll.enter(id, shown.clone());
        debug_assert!(before.is_none(), "client {id} has joined this room twice");
        if follows {
            inner.followers.insert(id);
        }
        if !inner.followers.is_empty() {
            let told = inner.notices.joined(now, id, shown);
            inner.tell(told, None);
        }
    }

    /// Removes a client; [`tell`](Self::tell) is to be called once no lock is held.
    pub(crate) fn leave(&self, id: ClientId) {
        if planted::is(Bug::PresenceGhost) {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(shown) = inner.roll.leave(id) else {
            return;
        };
        inner.followers.remove(&id);
        if inner.followers.is_empty() {
            inner.notices.clear();
            inner.queue.clear();
        } else {
            let now = self.setting.rt.now();
            let told = inner.notices.left(now, id, shown);
            if planted::is(Bug::LeaveNoticeRepeated) {
                inner.tell(told.clone(), None);
            }
            inner.tell(told, None);
        }
    }

    /// Replaces the facts about a client that has shown a fresh token.
    pub(crate) fn renew(this: &Arc<Self>, id: ClientId, shown: Shown) {
        let mut inner = this.inner.lock();
        let before = inner.roll.enter(id, shown.clone());
        if before.as_ref() != Some(&shown) && !inner.followers.is_empty() {
            let told = inner.notices.changed(this.setting.rt.now(), id, shown);
            inner.tell(told, None);
        }
        drop(inner);
        Self::tell(this);
    }

    /// The clients of a page, which follow `after`, at most `most`; only counts in a kind that
    /// lists none.
    pub(crate) fn page(&self, after: Option<ClientId>, most: usize) -> StdArc<Page> {
        let most = match self.setting.policy.keep {
            Keep::List => most,
            Keep::Count | Keep::Off => 0,
        };
        self.inner.lock().roll.page(after, most)
    }

    /// Publishes the joins and leaves that are to be told, and sets the timer for the next ones; to
    /// be called with no lock held.
    ///
    /// Each time a single thread publishes, so that clients are told of changes in their order.
    /// Changes of other threads wait in the queue for it.
    pub(crate) fn tell(this: &Arc<Self>) {
        loop {
            let mut inner = this.inner.lock();
            let (task, disarmed) = Self::arm(this, &mut inner);
            let next = match inner.is_telling {
                true => None,
                false => inner.queue.pop_front(),
            };
            inner.is_telling |= next.is_some();
            drop(inner);
            if let Some(timer) = disarmed {
                timer.abort.abort();
            }
            if let Some(task) = task {
                this.setting.rt.spawn(task);
            }
            let Some((told, count)) = next else {
                return;
            };
            let counts = &this.setting.counts;
            let counter = match count {
                Some(_) => &counts.together,
                None => &counts.at_once,
            };
            counter.fetch_add(told.len() as u64, Ordering::Relaxed);
            // Also if a waker panics, the next thread has its turn.
            let turn = Turn(&this.inner);
            // Together, so that no reader loses one of them to the other.
            let notices = notice::notices(&told, count).into_iter().map(Message::from);
            if let Some(notices) = Batch::join(notices) {
                this.setting.bus.publish(&this.topic, notices);
            }
            drop(turn);
        }
    }

    /// Sets the timer to the present deadline; returns its task, and the timer that was set before.
    fn arm(this: &Arc<Self>, inner: &mut Inner) -> (Option<BoxFuture<'static, ()>>, Option<Timer>) {
        let due = inner.notices.deadline();
        if inner.timer.as_ref().map(|timer| timer.at) == due {
            return (None, None);
        }
        let disarmed = inner.timer.take();
        let task = due.map(|at| {
            let (abort, registration) = AbortHandle::new_pair();
            inner.timer = Some(Timer { at, abort });
            let this = Arc::clone(this);
            let wait = async move {
                this.setting.rt.sleep_until(at).await;
                Self::on_time(&this, at);
            };
            Abortable::new(wait, registration).map(drop).boxed()
        });
        (task, disarmed)
    }

    fn on_time(this: &Arc<Self>, at: Instant) {
        let mut inner = this.inner.lock();
        inner.timer.take_if(|timer| timer.at == at);
        let told = inner.notices.on_time(this.setting.rt.now());
        let count = inner.roll.count();
        inner.tell(told, Some(count));
        drop(inner);
        Self::tell(this);
    }
}
