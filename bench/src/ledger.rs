//! What was sent, what has come back, and what is still owed.

/// Whom a message reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its sender alone.
    Sender,
    /// Every receiver.
    Everybody,
}

/// Counts messages for each client.
#[derive(Debug)]
pub(super) struct Ledger {
    reach: Reach,
    accounts: Vec<Account>,
    /// Clients that receive; one after them only publishes.
    receivers: usize,
    sent: u64,
    delivered: u64,
    /// How many may be sent in all.
    sent_max: u64,
    /// What clients that are gone will never get.
    forgone: u64,
}

#[derive(Clone, Debug)]
struct Account {
    sent: u64,
    received: u64,
    is_open: bool,
}

impl Ledger {
    /// For so many clients, the first of which receive, and at most `sent_max` messages.
    pub(super) fn new(reach: Reach, clients: usize, receivers: usize, sent_max: u64) -> Self {
        let account = Account {
            sent: 0,
            received: 0,
            is_open: true,
        };
        Self {
            reach,
            accounts: vec![account; clients],
            receivers,
            sent: 0,
            delivered: 0,
            sent_max,
            forgone: 0,
        }
    }

    /// Lets a client send, and returns how many messages: fewer than wanted at the end of a run,
    /// none once the client is gone.
    pub(super) fn send(&mut self, client: usize, wanted: u64) -> u64 {
        let account = &mut self.accounts[client];
        if !account.is_open {
            return 0;
        }
        let count = wanted.min(self.sent_max - self.sent);
        account.sent += count;
        self.sent += count;
        count
    }

    /// Lets nobody send any more.
    pub(super) fn stop(&mut self) {
        self.sent_max = self.sent;
    }

    /// Whether nobody may send any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.sent == self.sent_max
    }

    /// Counts messages that a client got.
    pub(super) fn receive(&mut self, client: usize, count: u64) {
        self.accounts[client].received += count;
        if client < self.receivers {
            self.delivered += count;
        }
    }

    /// Writes off what is owed to a client that is gone.
    pub(super) fn leave(&mut self, client: usize) {
        self.forgone += self.owed(client);
        self.accounts[client].is_open = false;
    }

    /// Messages that were sent, by all clients.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that receivers got, in all.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages that this client got.
    pub(super) fn received(&self, client: usize) -> u64 {
        self.accounts[client].received
    }

    /// Clients that receive, gone or not.
    pub(super) fn receivers(&self) -> usize {
        self.receivers
    }

    /// Whether the client is still there.
    pub(super) fn is_open(&self, client: usize) -> bool {
        self.accounts[client].is_open
    }

    /// Whether any client is still there.
    pub(super) fn has_open(&self) -> bool {
        self.accounts.iter().any(|account| account.is_open)
    }

    /// Whether as much has come as was sent: nothing is under way, where a message reaches one.
    pub(super) fn is_even(&self) -> bool {
        self.delivered >= self.sent
    }

    /// Whether nobody who is still there is owed anything.
    pub(super) fn is_settled(&self) -> bool {
        (0..self.accounts.len()).all(|client| self.owed(client) == 0)
    }

    /// What did not come, to those who are still there and to those who are gone.
    pub(super) fn missing(&self) -> u64 {
        let owed = (0..self.accounts.len()).map(|client| self.owed(client));
        self.forgone + owed.sum::<u64>()
    }

    /// What receivers got although nobody had sent it.
    pub(super) fn excess(&self) -> u64 {
        let excess = |client| self.received(client).saturating_sub(self.due(client));
        (0..self.receivers).map(excess).sum()
    }

    /// What a client that is still there has not got yet.
    fn owed(&self, client: usize) -> u64 {
        let account = &self.accounts[client];
        match account.is_open {
            true => self.due(client).saturating_sub(account.received),
            false => 0,
        }
    }

    fn due(&self, client: usize) -> u64 {
        match self.reach {
            Reach::Sender => self.accounts[client].sent,
            Reach::Everybody if client < self.receivers => self.sent,
            Reach::Everybody => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_owed_to_its_sender() {
        let mut ledger = Ledger::new(Reach::Sender, 2, 2, 5);
        assert_eq!((ledger.send(0, 3), ledger.send(1, 3)), (3, 2), "the bound");
        assert!(ledger.is_stopped() && !ledger.is_settled());
        ledger.receive(0, 3);
        ledger.receive(1, 1);
        assert_eq!((ledger.missing(), ledger.excess()), (1, 0));
        assert!(!ledger.is_even());
        ledger.receive(1, 1);
        assert!(ledger.is_settled() && ledger.is_even());
        ledger.receive(1, 1);
        assert_eq!((ledger.missing(), ledger.excess()), (0, 1));
    }

    #[test]
    fn a_message_to_everybody_is_owed_to_each_receiver() {
        let mut ledger = Ledger::new(Reach::Everybody, 3, 2, u64::MAX);
        assert_eq!(ledger.send(2, 4), 4);
        assert_eq!(ledger.missing(), 8, "the publisher gets none");
        ledger.receive(0, 4);
        ledger.receive(1, 3);
        ledger.receive(2, 1);
        assert_eq!((ledger.delivered(), ledger.missing()), (7, 1));
        assert_eq!(ledger.excess(), 0, "what the publisher gets does not count");
        ledger.receive(1, 2);
        assert_eq!((ledger.missing(), ledger.excess()), (0, 1));
        ledger.stop();
        assert_eq!(ledger.send(2, 1), 0);
    }

    #[test]
    fn who_is_gone_is_owed_what_was_sent_before() {
        let mut ledger = Ledger::new(Reach::Everybody, 2, 2, u64::MAX);
        ledger.send(0, 3);
        ledger.receive(1, 1);
        ledger.leave(1);
        ledger.leave(1);
        ledger.send(0, 5);
        ledger.receive(0, 8);
        assert!(ledger.is_settled() && ledger.has_open());
        assert_eq!(ledger.missing(), 2);
        ledger.leave(0);
        assert_eq!((ledger.has_open(), ledger.send(0, 1)), (false, 0));
    }
}
