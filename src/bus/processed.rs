//! The queue of publishers that wait until their messages are processed.

use std::num::NonZeroU64;
use std::task::Waker;

use crate::sync::{WaiterSlot, Waiters, Wakers};

/// Parked tasks, each with an offset: the task waits until all messages before it are processed.
#[derive(Debug, Default)]
pub(super) struct ProcessedWaiters {
    waiters: Waiters,
    /// The smallest of the offsets; `None` while no task is parked.
    first: Option<NonZeroU64>,
}

impl ProcessedWaiters {
    /// The smallest offset for which a task waits.
    pub(super) fn first(&self) -> Option<NonZeroU64> {
        self.first
    }

    /// Parks the task at `waiter`, or at a new slot if it has none, and returns the waker that was
    /// there. The caller drops it after unlocking.
    #[must_use]
    pub(super) fn park(
        &mut self,
        before: NonZeroU64,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Option<Waker> {
        let first = self.first.map_or(before, |first| first.min(before));
        self.first = Some(first);
        let waiter = waiter.get_or_insert_with(|| self.waiters.enter());
        self.waiters.park(waiter, waker)
    }

    /// Gives the slot back and returns its waker, to drop after unlocking.
    #[must_use]
    pub(super) fn leave(&mut self, waiter: WaiterSlot) -> Option<Waker> {
        self.waiters.leave(waiter)
    }

    /// The number of slots in use.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Takes out the wakers of all tasks, to wake after unlocking; a task that is too early parks
    /// again.
    pub(super) fn unpark(&mut self) -> Wakers {
        self.first = None;
        self.waiters.unpark()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::{Context, Waker};

    use crate::bus::{
        Batch, InMemoryMessageBus, Message, MessageBus, Offered, Publisher, Subscription, Topic,
    };
    use crate::limits::Window;
    use crate::wakes::Wakes;

    fn topic() -> Topic {
        "t".parse().expect("a valid name")
    }

    /// Makes a bus, the only reader of its topic, and a publisher there.
    fn world() -> (InMemoryMessageBus, Subscription, Publisher) {
        let bus = InMemoryMessageBus::new(Window::default(), 2);
        let reader = bus.subscribe(&topic()).expect("there is room");
        let publisher = bus.publisher(&topic());
        (bus, reader, publisher)
    }

    fn say(publisher: &mut Publisher, texts: &[&str]) {
        let mut cx = Context::from_waker(Waker::noop());
        let batch = Batch::join(texts.iter().copied().map(Message::text));
        let offered = publisher.offer(&mut cx, batch.expect("there are some"));
        assert_eq!(offered, Offered::Published(1));
    }

    /// Whether the reader receives something; otherwise the reader is parked.
    fn receives(reader: &mut Subscription) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        reader.poll_recv(&mut cx).is_ready()
    }

    fn is_processed(publisher: &mut Publisher) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        publisher.poll_processed(&mut cx).is_ready()
    }

    #[test]
    fn messages_are_processed_once_the_reader_asks_for_more() {
        let (_bus, mut reader, mut publisher) = world();
        assert!(is_processed(&mut publisher), "it has said nothing");
        say(&mut publisher, &["a", "b"]);
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        assert!(publisher.poll_processed(&mut cx).is_pending());
        for _ in 0..2 {
            assert!(receives(&mut reader));
            assert!(!is_processed(&mut publisher), "it may still answer");
        }
        assert!(publisher.poll_processed(&mut cx).is_pending());
        assert!(!receives(&mut reader));
        assert_eq!(wakes.count(), 1);
        assert!(publisher.poll_processed(&mut cx).is_ready());
        say(&mut publisher, &["c"]);
        assert!(!is_processed(&mut publisher), "the next one is not");
    }

    #[test]
    fn messages_are_processed_once_the_reader_has_what_others_said_after_them() {
        let (bus, mut reader, mut publisher) = world();
        let mut other = bus.publisher(&topic());
        say(&mut publisher, &["a"]);
        say(&mut other, &["b", "c"]);
        assert!(receives(&mut reader) && !is_processed(&mut publisher));
        assert!(receives(&mut reader) && is_processed(&mut publisher));
        assert!(!is_processed(&mut other), "its last one is still there");
    }

    #[test]
    fn a_batch_is_processed_once_the_next_one_is_received() {
        let (bus, mut reader, mut publisher) = world();
        say(&mut publisher, &["a", "b"]);
        say(&mut bus.publisher(&topic()), &["c"]);
        let (wakes, waker) = Wakes::new();
        let mut waits = Context::from_waker(&waker);
        assert!(publisher.poll_processed(&mut waits).is_pending());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reader.poll_batch(&mut cx).is_ready());
        assert_eq!((wakes.count(), is_processed(&mut publisher)), (0, false));
        assert!(publisher.poll_processed(&mut waits).is_pending());
        assert!(reader.poll_batch(&mut cx).is_ready());
        assert_eq!((wakes.count(), is_processed(&mut publisher)), (1, true));
    }

    #[test]
    fn messages_are_processed_once_the_last_reader_has_left() {
        let (bus, reader, mut publisher) = world();
        say(&mut publisher, &["a"]);
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        assert!(publisher.poll_processed(&mut cx).is_pending());
        drop(reader);
        assert_eq!(wakes.count(), 1);
        // The slot at the removed topic is not used at the new topic.
        let mut reader = bus.subscribe(&topic()).expect("there is room");
        say(&mut publisher, &["b"]);
        assert!(publisher.poll_processed(&mut cx).is_pending());
        assert!(receives(&mut reader) && !receives(&mut reader));
        assert_eq!(wakes.count(), 2);
        assert!(publisher.poll_processed(&mut cx).is_ready());
    }

    #[test]
    fn a_publisher_that_adopts_messages_waits_until_they_are_processed() {
        let (bus, mut reader, mut publisher) = world();
        publisher.adopt();
        assert!(is_processed(&mut publisher), "nobody has said anything");
        say(&mut bus.publisher(&topic()), &["a"]);
        assert!(is_processed(&mut publisher));
        publisher.adopt();
        assert!(!is_processed(&mut publisher));
        assert!(receives(&mut reader) && !receives(&mut reader));
        assert!(is_processed(&mut publisher));
        drop(reader);
        publisher.adopt();
        assert!(is_processed(&mut publisher), "nobody reads any more");
    }

    #[test]
    fn the_one_who_waits_for_less_is_woken_for_it_whoever_was_first() {
        let (bus, mut reader, mut first) = world();
        let mut last = bus.publisher(&topic());
        say(&mut first, &["a"]);
        say(&mut last, &["b"]);
        let ((of_first, waker), (of_last, last_waker)) = (Wakes::new(), Wakes::new());
        assert!(
            last.poll_processed(&mut Context::from_waker(&last_waker))
                .is_pending()
        );
        assert!(
            first
                .poll_processed(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert!(receives(&mut reader));
        assert_eq!((of_first.count(), of_last.count()), (0, 0));
        assert!(receives(&mut reader));
        assert_eq!(of_first.count(), 1);
        assert!(is_processed(&mut first) && !is_processed(&mut last));
    }

    #[test]
    fn a_publisher_that_leaves_is_not_woken_and_leaves_no_slot_behind() {
        let (bus, mut reader, mut publisher) = world();
        say(&mut publisher, &["a"]);
        let (wakes, waker) = Wakes::new();
        assert!(
            publisher
                .poll_processed(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let waiting = || bus.waiting_for_processed(&topic());
        assert_eq!(waiting(), 1);
        drop(publisher);
        assert!(receives(&mut reader) && !receives(&mut reader));
        assert_eq!(wakes.count(), 0);
        assert_eq!(waiting(), 0);
    }
}
