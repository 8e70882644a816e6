//! What the one reader of a log has taken out of it and not received yet.

use super::{Cursor, Log};
use crate::bus::ring::Ring;

/// Messages out of the log that are still to be received.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TakenAhead {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The offset after the last of them; 0 if there are none.
    end: u64,
}

impl Log {
    /// Moves all messages into `into`, which is empty, if they are all for this one reader.
    ///
    /// It receives them one by one and [`step`](Cursor::step)s; nothing else is given to it until
    /// they are [settled](Self::settle).
    pub(crate) fn take_ahead(&mut self, cursor: &Cursor, into: &mut Ring) -> bool {
        let is_out = self.ahead.messages > 0;
        if is_out || !self.is_sole() || self.entries.is_empty() || cursor.0 != self.head {
            return false;
        }
        std::mem::swap(&mut self.entries, into);
        self.head += into.len() as u64;
        self.caught_up = self.readers;
        self.ahead = TakenAhead {
            messages: into.len(),
            bytes: std::mem::take(&mut self.bytes),
            end: self.head,
        };
        self.free_burst();
        true
    }

    /// Counts what was received of those taken out up to `end`, and puts the rest back where it
    /// was; whether there is any to be received.
    pub(crate) fn settle(&mut self, end: u64, rest: &mut Ring) -> bool {
        if self.ahead.end != end {
            // Its reader has left, with which it was counted.
            *rest = Ring::default();
            return false;
        }
        let TakenAhead { messages, .. } = std::mem::take(&mut self.ahead);
        let (left, received) = (rest.len() as u64, (messages - rest.len()) as u64);
        self.counts.delivered += received;
        self.counts.pending -= received;
        if self.head == end {
            self.put_back(rest);
        } else {
            // Messages after them were lost by then: these are, too.
            *rest = Ring::default();
            self.counts.lost_lagged += left;
            self.counts.pending -= left;
        }
        self.shrink();
        left > 0
    }

    /// The number of the message that the slowest reader is to receive next.
    ///
    /// What was taken out is received once it is settled.
    pub(crate) fn received(&self) -> u64 {
        match self.ahead {
            TakenAhead { messages: 0, .. } => self.head,
            TakenAhead { messages, end, .. } => end - messages as u64,
        }
    }

    /// Whether this reader has taken out messages that it has not received.
    pub(super) fn has_ahead(&self, cursor: &Cursor) -> bool {
        self.ahead.messages > 0 && cursor.0 < self.ahead.end
    }

    /// Counts what this reader, which leaves, has received of what it took out; how many are left.
    pub(super) fn forget_ahead(&mut self, cursor: &Cursor) -> u64 {
        // What is out when the last one leaves, it has received, or one that has left.
        if !self.has_ahead(cursor) && self.readers > 1 {
            return 0;
        }
        let TakenAhead { messages, end, .. } = std::mem::take(&mut self.ahead);
        let left = end.saturating_sub(cursor.0);
        let received = messages as u64 - left;
        self.counts.delivered += received;
        self.counts.pending -= received;
        left
    }

    /// Puts back what is left of what was taken out, before what has come since.
    fn put_back(&mut self, rest: &mut Ring) {
        if !self.is_sole() {
            rest.unpack();
        }
        if let Some(readers) = rest.readers_mut(0) {
            *readers = 1;
            *self.readers_at(self.head) -= 1;
        }
        self.head -= rest.len() as u64;
        self.bytes += rest.bytes();
        self.entries.put_before(rest);
        self.evict_overflow();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Message, Received, TopicCounts, Train};
    use crate::limits::Window;

    const WINDOW: Window = Window {
        messages: std::num::NonZeroUsize::new(3).expect("not zero"),
        bytes: 8,
    };

    /// What may happen to a log whose first reader takes ahead.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        /// A message of so many bytes is published, whether there is room or not.
        Append(usize),
        /// Two that came together are.
        Train,
        /// The first reader receives one.
        Receive,
        /// The first reader's poll ends.
        Settle,
        /// A second reader joins, or leaves.
        Other,
    }

    const STEPS: [Step; 6] = [
        Step::Append(1),
        Step::Append(5),
        Step::Train,
        Step::Receive,
        Step::Settle,
        Step::Other,
    ];

    /// Who or what ends.
    #[derive(Clone, Copy, Debug)]
    enum Leaves {
        First,
        Other,
        Poll,
    }

    /// A first reader that leaves within its poll, and one that leaves after it.
    const ENDINGS: [[Leaves; 3]; 4] = [
        [Leaves::Other, Leaves::First, Leaves::Poll],
        [Leaves::First, Leaves::Other, Leaves::Poll],
        [Leaves::First, Leaves::Poll, Leaves::Other],
        [Leaves::Poll, Leaves::First, Leaves::Other],
    ];

    /// A log, its first reader and what that has taken ahead.
    struct World {
        log: Log,
        cursor: Option<Cursor>,
        rest: Ring,
        end: Option<u64>,
        other: Option<Cursor>,
        takes_ahead: bool,
    }

    impl World {
        fn new(takes_ahead: bool) -> Self {
            let mut log = Log::of(WINDOW, 0);
            let cursor = Some(log.attach());
            Self {
                log,
                cursor,
                rest: Ring::default(),
                end: None,
                other: None,
                takes_ahead,
            }
        }

        /// One that takes ahead, after these.
        fn after(steps: &[Step]) -> Self {
            let mut world = Self::new(true);
            for step in steps {
                match *step {
                    Step::Append(bytes) => world.append(bytes),
                    Step::Train => world.append_train(),
                    Step::Receive => drop(world.receive()),
                    Step::Settle => world.settle(),
                    Step::Other => world.other(),
                }
            }
            world
        }

        fn append(&mut self, bytes: usize) {
            let number = self.log.next_number();
            let text = format!("{number:0bytes$}");
            self.log.append(text.as_str().into());
        }

        fn append_train(&mut self) {
            let number = self.log.next_number();
            let texts = [number, number + 1].map(|number| number.to_string());
            let train = Train::of_texts(&[&*texts[0], &*texts[1]]);
            self.log.append_batch(&mut train.into());
        }

        fn settle(&mut self) {
            if let Some(end) = self.end.take() {
                let left = !self.rest.is_empty();
                let is_there = self.cursor.is_some();
                assert_eq!(self.log.settle(end, &mut self.rest), left && is_there);
                assert!(self.rest.is_empty());
            }
        }

        /// What the first reader gets: a number, or how many were lost.
        fn receive(&mut self) -> Option<Result<u64, u64>> {
            if self.rest.is_empty() && self.takes_ahead {
                self.settle();
                let cursor = self.cursor.as_mut().expect("it has not left");
                if self.log.take_ahead(cursor, &mut self.rest) {
                    self.end = Some(self.log.head());
                }
            }
            let cursor = self.cursor.as_mut().expect("it has not left");
            let received = match self.rest.pop_front() {
                Some((message, _)) => {
                    cursor.step(1);
                    Received::Message(message)
                }
                None => self.log.next(cursor)?,
            };
            Some(match received {
                Received::Lagged(lost) => Err(lost),
                Received::Message(message) => {
                    let text = message.as_text().expect("it is a text");
                    Ok(text.parse().expect("a number"))
                }
            })
        }

        fn other(&mut self) {
            match self.other.take() {
                Some(cursor) => self.log.detach(cursor),
                None => self.other = Some(self.log.attach()),
            }
        }

        fn leave(&mut self) {
            let cursor = self.cursor.take().expect("it leaves once");
            self.log.detach(cursor);
        }

        fn assert_conserved(&self) -> TopicCounts {
            let counts = self.log.counts();
            let lost = counts.lost_lagged + counts.lost_unsubscribed;
            assert_eq!(counts.owed, counts.delivered + lost + counts.pending);
            counts
        }
    }

    /// Calls it with each sequence of so many steps.
    fn each_sequence(length: u32, check: impl Fn(&[Step])) {
        let base = STEPS.len();
        for number in 0..base.pow(length) {
            let digits = (0..length).map(|at| number / base.pow(at) % base);
            let steps: Vec<Step> = digits.map(|digit| STEPS[digit]).collect();
            check(&steps);
        }
    }

    #[test]
    fn nothing_is_lost_or_told_twice_whatever_happens_while_some_are_out() {
        each_sequence(7, |steps| {
            let mut world = World::new(true);
            let (mut next, mut got) = (0, 0);
            for step in steps {
                match *step {
                    Step::Append(bytes) => world.append(bytes),
                    Step::Train => world.append_train(),
                    Step::Receive => match world.receive() {
                        Some(Ok(number)) => {
                            assert_eq!(number, next, "{steps:?}");
                            next += 1;
                            got += 1;
                        }
                        Some(Err(lost)) => next += lost,
                        None => assert_eq!(next, world.log.next_number(), "{steps:?}"),
                    },
                    Step::Settle => world.settle(),
                    Step::Other => world.other(),
                }
                world.assert_conserved();
            }
            for ending in ENDINGS {
                let mut world = World::after(steps);
                for leaves in ending {
                    match leaves {
                        Leaves::First => world.leave(),
                        Leaves::Other => {
                            let other = world.other.take();
                            other
                                .into_iter()
                                .for_each(|cursor| world.log.detach(cursor));
                        }
                        Leaves::Poll => world.settle(),
                    }
                    world.assert_conserved();
                }
                let counts = world.log.counts();
                assert_eq!(
                    (counts.pending, counts.delivered),
                    (0, got),
                    "{steps:?} {ending:?}"
                );
                assert_eq!((world.log.messages(), world.log.bytes()), (0, 0));
            }
        });
    }

    #[test]
    fn where_publishers_wait_for_room_it_is_as_if_none_were_ever_out() {
        each_sequence(7, |steps| {
            let (mut ahead, mut plain) = (World::new(true), World::new(false));
            for step in steps {
                match *step {
                    Step::Append(bytes) => {
                        // What is received has its room until it is settled.
                        let has_room = ahead.log.has_room(bytes);
                        assert!(!has_room || plain.log.has_room(bytes), "{steps:?}");
                        assert!(!has_room || ahead.log.room() > 0, "{steps:?}");
                        if has_room {
                            ahead.append(bytes);
                            plain.append(bytes);
                        }
                    }
                    Step::Train => {
                        if ahead.log.room() > 1 && ahead.log.has_room(4) {
                            ahead.append_train();
                            plain.append_train();
                        }
                    }
                    Step::Receive => assert_eq!(ahead.receive(), plain.receive(), "{steps:?}"),
                    Step::Settle => ahead.settle(),
                    // Others do not wait, and may not lose either.
                    Step::Other => {}
                }
                if ahead.end.is_none() {
                    let topic = "t".parse().expect("a valid name");
                    assert_eq!(ahead.log.status(&topic), plain.log.status(&topic));
                    assert_eq!(ahead.log.room(), plain.log.room(), "{steps:?}");
                }
                assert_eq!(ahead.log.counts().lost_lagged, 0);
            }
            for world in [&mut ahead, &mut plain] {
                world.leave();
                world.settle();
            }
            assert_eq!(ahead.log.counts(), plain.log.counts(), "{steps:?}");
        });
    }

    #[test]
    fn what_is_out_is_the_one_readers_alone() {
        let mut world = World::new(true);
        world.append(1);
        assert_eq!(world.receive(), Some(Ok(0)));
        assert!(world.end.is_some(), "it was taken ahead");
        world.other();
        world.append(1);
        let other = world.other.as_mut().expect("it has joined");
        assert!(
            world.log.next(other).is_some(),
            "another one is not kept from it"
        );
        assert!(!world.log.take_ahead(other, &mut Ring::default()));
        world.settle();
        assert_eq!(world.receive(), Some(Ok(1)));
        assert_eq!(world.end, None, "with two readers nothing is taken ahead");
    }

    #[test]
    fn what_a_reader_that_has_left_took_out_is_settled_before_others_take_some() {
        let mut world = World::new(true);
        world.append(1);
        assert_eq!(world.receive(), Some(Ok(0)));
        world.other();
        world.leave();
        world.append(1);
        let mut other = world.other.take().expect("it has joined");
        assert!(!world.log.take_ahead(&other, &mut Ring::default()));
        world.settle();
        assert_eq!(world.assert_conserved().delivered, 1);
        assert!(world.log.take_ahead(&other, &mut world.rest));
        other.step(1);
        world.rest.pop_front();
        world.end = Some(world.log.head());
        world.log.detach(other);
        world.settle();
        assert_eq!(world.assert_conserved().delivered, 2);
    }

    #[test]
    fn what_a_reader_that_has_left_gives_back_is_not_taken_for_anothers() {
        let mut world = World::new(true);
        world.append(1);
        world.append(1);
        assert_eq!(world.receive(), Some(Ok(0)));
        world.other();
        world.leave();
        world.append(1);
        let other = world.other.take().expect("it has joined");
        let mut taken = Ring::default();
        assert!(world.log.take_ahead(&other, &mut taken));
        world.settle();
        let counts = world.assert_conserved();
        assert_eq!(
            (counts.delivered, counts.lost_unsubscribed, counts.pending),
            (1, 1, 1)
        );
        let end = world.log.head();
        assert!(world.log.settle(end, &mut taken), "that one's is its own");
    }

    #[test]
    fn who_has_taken_some_is_given_nothing_else_until_it_has_received_them() {
        let mut world = World::new(true);
        world.append(1);
        world.append(1);
        assert_eq!(world.receive(), Some(Ok(0)));
        world.append(1);
        let cursor = world.cursor.as_mut().expect("it has not left");
        assert_eq!(world.log.next(cursor), None);
        world.settle();
        let cursor = world.cursor.as_mut().expect("it has not left");
        assert!(world.log.is_ready(cursor));
        assert_eq!(world.receive(), Some(Ok(1)));
        assert_eq!(world.receive(), Some(Ok(2)));
    }

    #[test]
    fn what_is_out_keeps_its_room_from_what_is_offered_together() {
        // Of a window of 3 messages and 8 bytes.
        for (out, offered, fit) in [
            (&[5][..], [2, 2], 1),
            (&[1, 1], [1, 1], 1),
            (&[1], [1, 1], 2),
        ] {
            let mut world = World::new(true);
            out.iter().for_each(|bytes| world.append(*bytes));
            let cursor = world.cursor.as_ref().expect("it has not left");
            assert!(world.log.take_ahead(cursor, &mut world.rest));
            let texts = offered.map(|bytes| Message::text("x".repeat(bytes)));
            let mut batch = texts.into_iter().collect();
            assert_eq!(
                world.log.append_fitting(&mut batch),
                fit,
                "{offered:?} to {out:?}"
            );
        }
    }
}
