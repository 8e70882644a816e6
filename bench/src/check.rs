//! Checks that each message is unchanged, in order, and received once.

use super::frames::{MARK_BYTES, filler, read_mark};
use super::ledger::Reach;

/// Checks the messages that every client receives.
#[derive(Debug)]
pub(super) struct Check {
    size: usize,
    senders: Senders,
    /// The next expected number of each sender, a row for each receiver.
    next: Vec<u32>,
    found: Found,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Messages that were received as sent.
    pub(super) good: u64,
    /// Messages that no client sent, or that were not for this client.
    pub(super) foreign: u64,
    /// Numbers that were skipped.
    pub(super) skipped: u64,
    /// Messages that were repeated, or came after a later message.
    pub(super) repeated: u64,
}

/// The senders of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Senders {
    /// The client itself.
    Itself,
    /// One publisher, with this index.
    One(usize),
    /// All clients, of this number.
    All(usize),
}

impl Senders {
    /// The senders for a reach; `publisher` is the only sender if there is one.
    pub(super) fn of(reach: Reach, clients: usize, publisher: Option<usize>) -> Self {
        match (reach, publisher) {
            (Reach::Sender, _) => Self::Itself,
            (Reach::Everybody, Some(publisher)) => Self::One(publisher),
            (Reach::Everybody, None) => Self::All(clients),
        }
    }

    /// The number of senders for each receiver.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Itself | Self::One(_) => 1,
            Self::All(clients) => clients,
        }
    }

    fn column(self, receiver: usize, sender: usize) -> Option<usize> {
        match self {
            Self::Itself => (receiver == sender).then_some(0),
            Self::One(one) => (one == sender).then_some(0),
            Self::All(clients) => (sender < clients).then_some(sender),
        }
    }
}

impl Check {
    /// A check of messages of `size` bytes to `receivers` receivers.
    pub(super) fn new(size: usize, receivers: usize, senders: Senders) -> Self {
        Self {
            size,
            senders,
            next: vec![0; receivers * senders.width()],
            found: Found::default(),
        }
    }

    /// The result so far.
    pub(super) fn found(&self) -> Found {
        self.found
    }

    /// Checks a message; messages of a client that only publishes do not count.
    pub(super) fn message(&mut self, receiver: usize, payload: &[u8]) {
        if receiver * self.senders.width() >= self.next.len() {
            return;
        }
        match self.place(receiver, payload) {
            Some((next, number)) => self.number(next, number),
            None => self.found.foreign += 1,
        }
    }

    /// The index of the next expected number of the message's sender, and the message's own number.
    fn place(&self, receiver: usize, payload: &[u8]) -> Option<(usize, u32)> {
        let (sender, number) = read_mark(payload)?;
        let column = self.senders.column(receiver, sender)?;
        let filled = payload.iter().enumerate().skip(MARK_BYTES);
        let mut filled = filled.map(|(index, byte)| *byte == filler(index));
        let is_whole = payload.len() == self.size && filled.all(|is_equal| is_equal);
        let place = receiver * self.senders.width() + column;
        is_whole.then_some((place, number))
    }

    /// Counts a number. Numbers wrap, so a number that is less than half the range ahead counts as
    /// later.
    fn number(&mut self, place: usize, number: u32) {
        let ahead = number.wrapping_sub(self.next[place]);
        if ahead > u32::MAX / 2 {
            self.found.repeated += 1;
            return;
        }
        self.found.good += 1;
        self.found.skipped += u64::from(ahead);
        self.next[place] = number.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: usize, number: u64) -> Vec<u8> {
        let mark = format!("{sender:08x}{number:08x}");
        let rest = (MARK_BYTES..20).map(filler);
        mark.bytes().chain(rest).collect()
    }

    fn found(senders: Senders, messages: &[(usize, Vec<u8>)]) -> [u64; 4] {
        let mut check = Check::new(20, 3, senders);
        for (receiver, payload) in messages {
            check.message(*receiver, payload);
        }
        let found = check.found();
        [found.good, found.foreign, found.skipped, found.repeated]
    }

    #[test]
    fn each_pair_has_an_order_of_its_own() {
        let mut messages = Vec::new();
        for receiver in 0..3 {
            for number in 0..3 {
                messages.extend((0..3).map(|sender| (receiver, message(sender, number))));
            }
        }
        messages.push((3, message(1, 0)));
        assert_eq!(found(Senders::All(3), &messages), [27, 0, 0, 0]);
        assert_eq!(found(Senders::One(1), &messages), [9, 18, 0, 0]);
        assert_eq!(found(Senders::Itself, &messages), [9, 18, 0, 0]);
    }

    #[test]
    fn what_is_left_out_and_what_comes_again_is_counted() {
        let numbers = [0, 1, 1, 4, 2, 5];
        let messages = numbers.map(|number| (0, message(0, number)));
        assert_eq!(found(Senders::Itself, &messages), [4, 0, 2, 2]);
    }

    #[test]
    fn what_nobody_sent_is_foreign() {
        let mut changed = message(0, 0);
        changed[18] = b'!';
        let longer = [message(0, 0), vec![filler(20)]].concat();
        let messages = [changed, longer, b"hello".to_vec(), message(3, 0)];
        let messages = messages.map(|message| (0, message));
        assert_eq!(found(Senders::All(3), &messages), [0, 4, 0, 0]);
    }

    #[test]
    fn numbers_wrap() {
        let mut check = Check::new(20, 1, Senders::Itself);
        check.next[0] = u32::MAX;
        check.message(0, &message(0, u64::from(u32::MAX)));
        check.message(0, &message(0, 0));
        assert_eq!((check.found().good, check.found().skipped), (2, 0));
    }
}
