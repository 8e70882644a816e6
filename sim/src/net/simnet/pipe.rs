//! One direction of a connection.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use crate::rng::Rng;

/// Bytes on their way from a writer to a reader.
pub(super) struct Pipe {
    /// Taken from the writer, not on the wire yet.
    pub(super) send: VecDeque<u8>,
    /// Bytes for which the writer knows that the reader has room.
    pub(super) credit: usize,
    /// Arrived and not read.
    pub(super) receive: VecDeque<u8>,
    pub(super) writer: End,
    pub(super) reader: End,
    /// What is sent is lost for ever.
    pub(super) is_dead: bool,
    /// The end is on its way.
    pub(super) is_end_sent: bool,
    /// The end has arrived.
    pub(super) is_ended: bool,
    /// When the link has sent what it was given.
    pub(super) free_at: Duration,
    /// When the last of what is on its way arrives: nothing overtakes.
    pub(super) last_arrival: Duration,
    /// Latencies and the lengths of segments.
    pub(super) on_the_way: Rng,
    /// The lengths of reads and writes.
    pub(super) at_the_ends: Rng,
    pub(super) read_waker: Option<Waker>,
    pub(super) write_waker: Option<Waker>,
}

/// What became of one end of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The program has dropped the socket.
    Dropped,
    /// The program writes no more.
    Finished,
    Open,
    /// The peer has reset the connection.
    Reset,
}

impl Pipe {
    pub(super) fn new(credit: usize, mut keyed: impl FnMut(&str) -> Rng) -> Self {
        Self {
            send: VecDeque::new(),
            credit,
            receive: VecDeque::new(),
            writer: End::Open,
            reader: End::Open,
            is_dead: false,
            is_end_sent: false,
            is_ended: false,
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            on_the_way: keyed("segments"),
            at_the_ends: keyed("lengths"),
            read_waker: None,
            write_waker: None,
        }
    }
}
