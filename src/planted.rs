//! Deliberate bugs, to check that the simulator finds them (feature `planted`, for its tests
//! alone).
//!
//! Each site asks [`is`]. Without the feature that is a constant `false`: no code of a bug is
//! compiled, and no bug can be enabled by other means.

use std::ops::{Add, Sub};

/// Declares the bugs and the list of all bugs.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident,)*) => {
        /// A deliberate bug, named by what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "planted"),
            expect(unreachable_pub, reason = "it is reached where the feature is on")
        )]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];
        }
    };
}

bugs! {
    // Of the bus.
    /// Of several tasks that wait for one resource, a single one is woken.
    OneWoken,
    /// A read that makes room wakes no publisher that waits for it.
    RoomWakesNobody,
    /// The window keeps one message less than its limit.
    WindowTooSmall,
    /// The window keeps one message more than its limit.
    WindowTooLarge,
    /// A subscriber that lagged is told of one loss too few.
    LagTooLow,
    /// A message that falls out of the window unread is not counted.
    LagNotCounted,
    /// The messages that a subscriber leaves unread are not counted.
    UnreadNotCounted,
    /// The bytes of a message that every subscriber has read are kept in the sum.
    BytesKept,
    /// A topic stays when its last subscriber has left.
    TopicLeaked,
    /// The counts of a topic are forgotten with the topic.
    CountsForgotten,
    /// The first two messages of a batch change places.
    BatchSwapped,
    /// The last message of a batch is delivered again.
    DeliveredTwice,
    /// The oldest batch falls out of the window whole, and only one message of it is counted.
    BatchEvictedWhole,
    /// A part of a batch gets the envelopes of the whole batch.
    FormOfWhole,
    /// A waiting publisher takes a window that is full for one with room.
    RoomInvented,
    /// A history gives a message the offset after the next one.
    OffsetSkipped,
    /// A recovery leaves the newest message out.
    HoleAtSeam,
    /// A recovery brings the first message after it, too, which is read a second time.
    DuplicateAtSeam,
    /// A history serves messages that have expired.
    ExpiredServed,
    /// A history keeps more messages and bytes than it may.
    HistoryBoundForgotten,
    /// A history gets another epoch while its room has no subscriber.
    EpochChangedOnShelf,
    /// A history has the epoch that its room had before a crash of the process.
    EpochKeptOverCrash,
    /// The end of a stream is a message like others after a restart with its history.
    EndForgotten,
    /// A restart with its histories loses the newest messages of each.
    RestartLosesNewest,
    /// A history gets another epoch by a restart with it.
    EpochChangedByRestart,
    /// A client that comes back gets the last message that it has once more.
    ResumedTooEarly,
    /// A client that comes back misses the first message that it does not have.
    ResumedTooLate,
    /// A history gets another epoch with the first message of another instance of its service.
    EpochChangedByInstance,

    // Of calls and requests.
    /// A publish whose idempotency key is known publishes again.
    IdempotencyKeyForgotten,
    /// An idempotency key of one room is known in all rooms.
    IdempotencyKeyShared,
    /// The commands of a batch that follow one with a fault are not done.
    BatchEndsAtFault,
    /// A message that no history is to take is taken by one.
    LiveKept,
    /// A caller is told that its message has the place after its own.
    PlaceOfNext,
    /// The caller whose request was dropped waits until the time for an answer is over.
    DropNotTold,
    /// The caller whose request was dropped is answered `null`.
    DropAnswered,
    /// A service has twice the time for the answer to a backend.
    DeadlineDoubled,

    // Of the registry.
    /// A client that leaves is not counted as gone.
    LeaseKept,
    /// A client that leaves is counted as gone twice, if others are there.
    LeaseReleasedTwice,
    /// The signal to stop does not reach the instance.
    StopNotSignalled,
    /// An instance that was told to stop counts as gone at once.
    StopNotAwaited,
    /// An instance that overstays its grace is not aborted.
    GraceIgnored,
    /// A service that crashed is started again without a wait.
    BackoffSkipped,
    /// A service that failed takes clients again at once.
    CooldownIgnored,
    /// A service is given up one crash too late.
    CrashTolerated,
    /// A service stops with its last client although it is to linger.
    LingerSkipped,
    /// The timer of a lingering service stays armed when a client comes and goes.
    TimerKept,
    /// A change of a service's status wakes no watcher.
    StatusWakesNobody,
    /// An instance whose task was dropped is not reported as gone.
    DroppedNotReported,
    /// Messages of an instance that stops are delivered to clients that joined later.
    StaleDelivered,
    /// An instance that is to stop does not read the messages left in its inbox.
    InboxLeftUnread,

    // Of rooms and their members.
    /// A room that is over stays among those of its kind.
    RoomKept,
    /// A room is over with its instance, although a client has come while that stopped.
    RoomTakenFromJoined,
    /// A room that is over keeps its share of the bounds.
    RoomPermitKept,
    /// A room more than the limit is made.
    RoomTooMany,
    /// The generations of a key begin anew with a new room.
    GenerationRestarted,
    /// All rooms of a kind have one inbox.
    InboxShared,
    // Of presence.
    /// A client that has left is listed in its room.
    PresenceGhost,
    /// Clients are told of the joins and leaves of other rooms of the kind.
    PresenceShared,
    /// The leave of a client is told twice.
    LeaveNoticeRepeated,
    /// A client joins a room without being told to its instance.
    JoinNotTold,
    /// A client's join is told twice.
    JoinToldTwice,
    /// A client's join is told after its first message.
    JoinToldLate,
    /// A client's leave is not told.
    LeaveNotTold,
    /// A client's leave is told before its last messages.
    LeaveToldEarly,
    /// An instance that stops is told of a client that the next one serves.
    NextToldToPresent,
    /// A message to all but one client reaches that client.
    ExceptReached,
    /// A message to one client overtakes those to all that were said before.
    DirectOvertakes,

    // Of the drain and the permits.
    /// A drain lets clients join.
    DrainAdmits,
    /// A drain forgets the first service.
    DrainForgetsService,
    /// A drain does not wait for the sessions to end.
    DrainNotAwaited,
    /// A drain drops messages that were published before it.
    DrainDropsPublished,
    /// A drain closes sessions that have not read arrived messages.
    DrainLeavesUnread,
    /// A drain closes sessions before their service has answered arrived messages.
    DrainOvertakesService,
    /// A session that ends does not give its permit back.
    PermitKept,
    /// A session more than the limit is admitted.
    SessionTooMany,
    /// A session less than the limit is admitted.
    SessionTooFew,

    // Of the sessions.
    /// A session that stalls is closed with the code of a drain.
    StalledCodeWrong,
    /// A session that reads too slowly is closed with a code of its own fault.
    SlowCodeWrong,
    /// A peer's close frame is not sent back.
    CloseNotEchoed,
    /// A peer that closes gets no answers to its earlier messages.
    CloseUnanswered,
    /// A closing session sends its close frame before messages that are due.
    DataAfterClose,
    /// A closing session has twice the time it is allowed.
    CloseTooLong,
    /// A closing session drops its socket without waiting for the peer's end.
    EndNotAwaited,
    /// A message that no service has taken is not counted when its session ends.
    PendingNotCounted,
    /// Of several messages that no service has taken at once, only the first is kept.
    GatheredLost,
    /// Of several messages that a service publishes at once, the last is left out.
    PublishedShort,
    /// A peer's ping is not answered.
    PongDropped,
    /// A silent peer is not pinged.
    PingNotSent,
    /// Bytes that were read with a message, but not decoded yet, are lost.
    ReadAheadLost,
    /// The last byte that a short write has taken is sent again.
    ShortWriteRepeated,
    /// Written bytes are not flushed.
    FlushForgotten,
    /// A session whose fan-out gives up on it is not woken.
    ReleaseNotWoken,
    /// A socket that takes no bytes has no deadline.
    WriteNeverStuck,
    /// The deadline of a write is not put off by progress.
    ProgressIgnored,
    /// Answers that wait for the socket hold a client's messages back for ever.
    AnswersTimeoutIgnored,
    /// Answers that wait for the socket do not hold a client's messages back.
    AnswersNotAwaited,
    /// A timer that is armed is not moved to an earlier deadline.
    DeadlineNotMoved,
    /// Messages that a slow client has lost do not close its session where they should.
    SlowConsumerKept,

    /// A client may send more than its rate.
    RateNotKept,
    /// A client may send less at once than its burst.
    RateTooLow,
    /// Every session leaves a draining server at once.
    DrainNotPaced,
    /// A client that uses the JSON subprotocol is told of no loss.
    LossNotTold,
    /// A client that uses the JSON subprotocol is told of a restart with each message after it.
    RestartToldAgain,

    // Of the keepalive.
    /// The interval of the keepalive is doubled.
    IntervalDoubled,
    /// A silent peer is pinged for ever.
    SilentKept,
    /// A peer counts as dead before its time to answer a ping is over.
    SilentTooEarly,
    /// A peer that is not read from counts as silent.
    ExcuseForgotten,
    /// A message may take any time to arrive.
    MessageEndless,

    // Of the wire.
    /// A compressed message is not marked as compressed.
    CompressedUnmarked,
    /// The mask starts afresh with each part of a frame that is read.
    MaskRestarted,
    /// A character that is cut by the end of a read is refused.
    CharacterCutRefused,
    /// A message of exactly the limit is too big.
    LimitTooSmall,
    /// A message that is one byte too big is taken.
    LimitTooLarge,
    /// A control frame between two fragments ends the message.
    FragmentsForgotten,
    /// A code that may not be sent is taken in a close frame.
    CloseCodeTaken,

    // Of the file of the histories.
    /// The file of the histories stays when a server has read it.
    #[cfg_attr(
        not(any(feature = "server", feature = "planted")),
        expect(dead_code, reason = "its site is in the shell")
    )]
    HistoryFileReadTwice,
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Returns the value, or one more with the bug; without the feature no arithmetic is left.
pub(crate) fn one_more<T: From<u8> + Add<Output = T>>(bug: Bug, value: T) -> T {
    if is(bug) { value + 1.into() } else { value }
}

/// Returns the value, or one less with the bug, but not 0.
pub(crate) fn one_less<T: From<u8> + PartialOrd + Sub<Output = T>>(bug: Bug, value: T) -> T {
    if is(bug) && value > 1.into() {
        value - 1.into()
    } else {
        value
    }
}

/// Returns the value, or 0 with the bug.
pub(crate) fn none<T: Default>(bug: Bug, value: T) -> T {
    if is(bug) { T::default() } else { value }
}

/// Returns the number of taken bytes, or one less with the bug if it is not the whole.
pub(crate) fn one_short(bug: Bug, taken: usize, whole: usize) -> usize {
    if is(bug) && taken < whole {
        taken - 1
    } else {
        taken
    }
}

/// Returns the value, or with the bug keeps it for ever.
pub(crate) fn kept<T>(bug: Bug, value: Option<T>) -> Option<T> {
    if is(bug) {
        std::mem::forget(value);
        return None;
    }
    value
}

/// Whether the bug is planted and the count is not 0.
pub(crate) fn when_any(bug: Bug, count: impl FnOnce() -> usize) -> bool {
    is(bug) && count() > 0
}

/// Returns the largest number: no bound, or `some` with the bug.
pub(crate) fn most(bug: Bug, some: usize) -> usize {
    if is(bug) { some } else { usize::MAX }
}

/// Returns the value, or with the bug the value before, if there was one.
pub(crate) fn or<T>(bug: Bug, before: Option<T>, value: Option<T>) -> Option<T> {
    if is(bug) { before.or(value) } else { value }
}

/// Returns the value, or twice the value with the bug.
pub(crate) fn twice<T: Copy + Add<Output = T>>(bug: Bug, value: T) -> T {
    if is(bug) { value + value } else { value }
}

/// With the bug, swaps the first two values.
pub(crate) fn swap<T>(bug: Bug, values: &mut [T]) {
    if is(bug) && values.len() > 1 {
        values.swap(0, 1);
    }
}

#[cfg(feature = "planted")]
mod plot {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug, or none, in this thread: a run of the simulator uses a single thread.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// The bug that is planted in this thread.
    pub fn planted() -> Option<Bug> {
        PLANTED.get()
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub(crate) use self::plot::is;
#[cfg(feature = "planted")]
pub use self::plot::{plant, planted};
