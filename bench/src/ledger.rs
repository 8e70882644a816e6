//! Counts the messages that were sent, received, and are still owed.

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only its sender.
    Sender,
    /// Every receiver.
    Everybody,
}

/// The counts of messages for each client.
#[derive(Debug)]
pub(super) struct Ledger {
    reach: Reach,
    accounts: Vec<Account>,
    /// The number of receiving clients; a client behind them only publishes.
    receivers: usize,
    sent: u64,
    delivered: u64,
    /// Maximum number of messages to send in total.
    sent_max: u64,
    /// The number of messages owed to clients that are gone.
    forgone: u64,
}

#[derive(Clone, Debug)]
struct Account {
    sent: u64,
    received: u64,
    is_open: bool,
}

impl Ledger {
    /// A ledger for `clients` clients, of which the first `receivers` receive, and for at most
    /// `sent_max` messages.
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

    /// Allows a client to send, and returns the number of messages: fewer than wanted at the end of
    /// a run, none once the client is gone.
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

    /// Stops all sending.
    pub(super) fn stop(&mut self) {
        self.sent_max = self.sent;
    }

    /// Whether the maximum number of messages was sent.
    pub(super) fn is_stopped(&self) -> bool {
        self.sent == self.sent_max
    }

    /// Counts messages that a client has received.
    pub(super) fn receive(&mut self, client: usize, count: u64) {
        self.accounts[client].received += count;
        if client < self.receivers {
            self.delivered += count;
        }
    }

    /// Writes off the messages owed to a client that is gone.
    pub(super) fn leave(&mut self, client: usize) {
        self.forgone += self.owed(client);
        self.accounts[client].is_open = false;
    }

    /// The number of messages sent, by all clients.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The number of messages received, by all receivers.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The number of messages that this client has received.
    pub(super) fn received(&self, client: usize) -> u64 {
        self.accounts[client].received
    }

    /// The number of receiving clients, including clients that are gone.
    pub(super) fn receivers(&self) -> usize {
        self.receivers
    }

    /// Whether the client is connected.
    pub(super) fn is_open(&self, client: usize) -> bool {
        self.accounts[client].is_open
    }

    /// Whether any client is connected.
    pub(super) fn has_open(&self) -> bool {
        self.accounts.iter().any(|account| account.is_open)
    }

    /// Whether as many messages were received as sent: where a message reaches one client, none is
    /// in flight.
    pub(super) fn is_even(&self) -> bool {
        self.delivered >= self.sent
    }

    /// Whether no connected client is owed a message.
    pub(super) fn is_settled(&self) -> bool {
        (0..self.accounts.len()).all(|client| self.owed(client) == 0)
    }

    /// The number of missing messages, for connected clients and for clients that are gone.
    pub(super) fn missing(&self) -> u64 {
        let owed = (0..self.accounts.len()).map(|client| self.owed(client));
        self.forgone + owed.sum::<u64>()
    }

    /// The number of messages received that no client had sent.
    pub(super) fn excess(&self) -> u64 {
        let excess = |client| self.received(client).saturating_sub(self.due(client));
        (0..self.receivers).map(excess).sum()
    }

    /// The number of messages owed to a connected client.
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
