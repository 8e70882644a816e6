//! The clients of a room, and the changes that its instance is still to be told of: pure.
//!
//! The instance is told of changes in one order with the messages of its inbox. A change is due at
//! a position of the inbox, once the instance has received every message before it: a join before
//! the client's first message, a leave after its last. A client that came and went before the
//! instance was told of it is not shown, unless a message of it waits in the inbox.

use std::collections::BTreeMap;

use crate::bus::{Client, ClientId};
use crate::metrics::CloseReason;
use crate::planted::{self, Bug};

/// The clients of one room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    members: BTreeMap<ClientId, Member>,
    /// The changes by their sequence numbers: at most one join and one leave of each member.
    changes: BTreeMap<u64, Due>,
    next: u64,
    /// Whether there is an instance to tell.
    has_instance: bool,
    /// The position in the inbox up to which the instance has received.
    received: u64,
}

#[derive(Clone, Debug)]
struct Member {
    client: Client,
    /// The sequence number of the join that the instance is to be told of; `None` once it is told,
    /// and for a client that was there at its start.
    untold: Option<u64>,
    /// Whether the client has come while the instance stopped: the next instance serves it.
    is_next: bool,
    /// Whether the client has left, and the instance is to be told of that.
    has_left: bool,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Joined(ClientId),
    Left(ClientId, CloseReason),
}

/// A change, and the position of the inbox at which it is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: u64,
    change: Change,
}

/// A change that an instance is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Joined(Client),
    Left(Client, CloseReason),
}

/// The end of a client's membership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// The position in the inbox behind the client's last message; `None` if the client has sent no
    /// message.
    pub(crate) behind: Option<u64>,
    pub(crate) reason: CloseReason,
}

impl Roster {
    /// Begins an instance, for which every present client is there.
    pub(crate) fn begin(&mut self) {
        self.end();
        self.has_instance = true;
    }

    /// Ends an instance: nothing is left to be told.
    pub(crate) fn end(&mut self) {
        self.has_instance = false;
        self.received = 0;
        self.changes.clear();
        self.members.retain(|_, member| !member.has_left);
        for member in self.members.values_mut() {
            member.untold = None;
            member.is_next = false;
        }
    }

    /// Adds a client, with the position of the inbox before its first message; `None` for a client
    /// that the next instance serves, because the present one stops.
    pub(crate) fn join(&mut self, client: Client, at: Option<u64>) {
        let id = client.id();
        let change = Change::Joined(id);
        let at = at.filter(|_| self.has_instance && !planted::is(Bug::JoinNotTold));
        let at = at.map(|at| planted::one_more(Bug::JoinToldLate, at));
        if let Some(at) = at.filter(|_| planted::is(Bug::JoinToldTwice)) {
            self.note(Due { at, change });
        }
        let member = Member {
            client,
            is_next: self.has_instance && at.is_none() && !planted::is(Bug::JoinNotTold),
            untold: at.map(|at| self.note(Due { at, change })),
            has_left: false,
        };
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "client {id} has joined this room twice");
    }

    /// Removes a client, at once if the instance need not be told.
    pub(crate) fn leave(&mut self, id: ClientId, leaving: Leaving) {
        let Some(member) = self.members.get_mut(&id) else {
            unreachable!("client {id} leaves a room that it has not joined");
        };
        let waits = leaving.behind.filter(|behind| *behind > self.received);
        let waits = planted::none(Bug::LeaveToldEarly, waits);
        let is_shown = !member.is_next && (member.untold.is_none() || waits.is_some());
        if !self.has_instance || !is_shown || planted::is(Bug::LeaveNotTold) {
            let untold = member.untold;
            self.members.remove(&id);
            untold.map(|join| self.changes.remove(&join));
            return;
        }
        member.has_left = true;
        let at = waits.unwrap_or_default();
        let change = Change::Left(id, leaving.reason);
        self.note(Due { at, change });
    }

    /// Replaces the record of a client after it has shown a fresh token.
    pub(crate) fn renew(&mut self, client: &Client) {
        if let Some(member) = self.members.get_mut(&client.id()) {
            member.client = client.clone();
        }
    }

    /// The next change that is due once the instance has received the inbox up to `received`.
    pub(crate) fn next(&mut self, received: u64) -> Option<Told> {
        self.received = received;
        let first = self.changes.first_entry()?;
        if first.get().at > received {
            return None;
        }
        match first.remove().change {
            Change::Joined(id) => {
                let member = self.members.get_mut(&id)?;
                member.untold = None;
                Some(Told::Joined(member.client.clone()))
            }
            Change::Left(id, reason) => {
                let member = self.members.remove(&id)?;
                Some(Told::Left(member.client, reason))
            }
        }
    }

    /// The clients that are there, in the order of their numbers.
    pub(crate) fn present(&self) -> Vec<Client> {
        let present = self.members.values().filter(|member| !member.has_left);
        present.map(|member| member.client.clone()).collect()
    }

    /// The clients that are there as far as the instance was told, in the order of their numbers.
    pub(crate) fn clients(&self) -> Vec<Client> {
        let is_told = |member: &&Member| !member.is_next && member.untold.is_none();
        let told = self.members.values().filter(is_told);
        told.map(|member| member.client.clone()).collect()
    }

    fn note(&mut self, due: Due) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.changes.insert(sequence, due);
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::identity::Identity;

    /// A step of a room's life; the number is a client's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        /// The instance ends, and the next one begins.
        Crash,
        Join(u64),
        Leave(u64),
        /// The client sends a message to the inbox.
        Say(u64),
        /// The instance receives the next change or message, as `Context::event` does.
        Receive,
    }

    const STEPS: [Step; 8] = [
        Step::Crash,
        Step::Join(0),
        Step::Join(1),
        Step::Leave(0),
        Step::Leave(1),
        Step::Say(0),
        Step::Say(1),
        Step::Receive,
    ];

    /// A roster with an inbox, and the instance's view of both.
    #[derive(Clone, Default)]
    struct World {
        roster: Roster,
        /// The senders of the messages in the inbox, from the first of this instance.
        inbox: Vec<u64>,
        received: usize,
        /// The live clients: whether each has spoken to this instance.
        live: BTreeMap<u64, bool>,
        /// The length of the inbox at the join of each client.
        joined_at: BTreeMap<u64, usize>,
        /// The clients that are there as this instance was told.
        there: Vec<u64>,
        /// The clients that this instance was told of, with their departure.
        departed: Vec<u64>,
        /// The number of each client in turn: a client that comes back is another one.
        names: [u64; 2],
    }

    fn client(id: u64) -> Client {
        let topic = "t".parse().expect("a name");
        Client::new(ClientId::new(id), Identity::default(), topic)
    }

    impl World {
        fn new() -> Self {
            let mut world = Self::default();
            world.roster.begin();
            world
        }

        /// Applies a step; returns whether it was possible.
        fn apply(&mut self, step: Step) -> bool {
            match step {
                Step::Crash => self.crash(),
                Step::Join(who) => return self.join(who),
                Step::Leave(who) => return self.leave(who),
                Step::Say(who) => return self.say(who),
                Step::Receive => return self.receive(),
            }
            true
        }

        fn id(&self, who: u64) -> u64 {
            who + 10 * self.names[usize::try_from(who).expect("small")]
        }

        fn crash(&mut self) {
            self.roster.begin();
            (self.inbox, self.received) = (Vec::new(), 0);
            self.live.values_mut().for_each(|spoken| *spoken = false);
            self.there = self.live.keys().copied().collect();
            self.departed.clear();
        }

        fn join(&mut self, who: u64) -> bool {
            let id = self.id(who);
            let is_new = self.live.insert(id, false).is_none();
            if is_new {
                let at = self.inbox.len();
                self.roster.join(client(id), Some(at as u64));
                self.joined_at.insert(id, at);
            }
            is_new
        }

        fn leave(&mut self, who: u64) -> bool {
            let id = self.id(who);
            let Some(spoken) = self.live.remove(&id) else {
                return false;
            };
            let behind = spoken.then_some(self.inbox.len() as u64);
            let reason = CloseReason::PeerClosed;
            self.roster
                .leave(ClientId::new(id), Leaving { behind, reason });
            self.names[usize::try_from(who).expect("small")] += 1;
            true
        }

        fn say(&mut self, who: u64) -> bool {
            let id = self.id(who);
            let Some(spoken) = self.live.get_mut(&id) else {
                return false;
            };
            *spoken = true;
            self.inbox.push(id);
            true
        }

        fn receive(&mut self) -> bool {
            match self.roster.next(self.received as u64) {
                Some(Told::Joined(client)) => {
                    let id = client.id().number();
                    assert!(!self.there.contains(&id), "{id} joined twice");
                    assert!(!self.departed.contains(&id), "{id} joined after it left");
                    let waits = self.inbox[self.received..].contains(&id);
                    assert!(
                        self.live.contains_key(&id) || waits,
                        "{id} need not be shown"
                    );
                    assert!(
                        self.received >= self.joined_at[&id],
                        "{id} is told too early"
                    );
                    self.there.push(id);
                }
                Some(Told::Left(client, _)) => {
                    let id = client.id().number();
                    assert!(self.there.contains(&id), "{id} left and was never there");
                    assert!(!self.live.contains_key(&id), "{id} has not left");
                    let waits = self.inbox[self.received..].contains(&id);
                    assert!(!waits, "{id} left before its last message");
                    self.there.retain(|there| *there != id);
                    self.departed.push(id);
                }
                None => {
                    let Some(id) = self.inbox.get(self.received) else {
                        return false;
                    };
                    assert!(self.there.contains(id), "{id} spoke before it joined");
                    self.received += 1;
                }
            }
            true
        }

        /// Checks that the instance knows who is there once it has received everything.
        fn check(mut self) {
            while self.receive() {}
            self.there.sort_unstable();
            let live: Vec<_> = self.live.keys().copied().collect();
            assert_eq!(self.there, live);
            let known = self.roster.clients().into_iter();
            let known: Vec<_> = known.map(|client| client.id().number()).collect();
            assert_eq!(known, live);
            assert!(self.roster.changes.is_empty());
            assert_eq!(self.roster.members.len(), live.len());
        }
    }

    fn enumerate(world: &World, depth: usize, visited: &mut u64) {
        world.clone().check();
        *visited += 1;
        if depth == 0 {
            return;
        }
        for step in STEPS {
            let mut next = world.clone();
            if next.apply(step) {
                enumerate(&next, depth - 1, visited);
            }
        }
    }

    #[test]
    fn in_every_short_life_of_a_room_its_instance_is_told_who_is_there() {
        let depth = if cfg!(miri) { 3 } else { 7 };
        let mut visited = 0;
        enumerate(&World::new(), depth, &mut visited);
        assert!(visited > 50, "the enumeration went nowhere: {visited}");
    }

    #[test]
    fn a_client_that_came_and_went_unseen_is_shown_with_its_message_or_not_at_all() {
        for (says, shown) in [(false, 0), (true, 3)] {
            let mut world = World::new();
            world.join(0);
            if says {
                world.say(0);
            }
            world.leave(0);
            let received = std::iter::from_fn(|| world.receive().then_some(()));
            assert_eq!(received.count(), shown, "says: {says}");
        }
    }

    #[test]
    fn clients_that_come_and_go_are_kept_for_no_instance_that_does_not_ask() {
        let mut world = World::new();
        for _ in 0..1_000 {
            world.join(0);
            world.leave(0);
        }
        assert!(world.roster.changes.is_empty() && world.roster.members.is_empty());
    }

    #[test]
    fn a_client_that_comes_while_the_instance_stops_is_there_for_the_next_one_alone() {
        let mut roster = Roster::default();
        roster.join(client(1), None);
        roster.begin();
        let behind = None;
        let reason = CloseReason::PeerClosed;
        roster.leave(ClientId::new(1), Leaving { behind, reason });
        for id in [2, 3] {
            roster.join(client(id), None);
        }
        roster.leave(ClientId::new(3), Leaving { behind, reason });
        assert_eq!(roster.next(0), Some(Told::Left(client(1), reason)));
        assert_eq!(roster.next(0), None);
        assert_eq!(roster.clients(), []);
        assert_eq!(roster.present(), [client(2)]);
        roster.begin();
        assert_eq!(roster.clients(), [client(2)]);
        assert_eq!(roster.next(0), None);
    }

    #[test]
    fn a_fresh_token_is_seen_and_no_event() {
        let mut roster = Roster::default();
        roster.join(client(1), Some(0));
        roster.begin();
        let identity = Identity {
            subject: Some("ann".into()),
            ..Identity::default()
        };
        roster.renew(&client(1).renewed(identity));
        roster.renew(&client(2));
        let clients = roster.clients();
        assert_eq!(clients.len(), 1);
        assert_eq!(clients[0].subject(), Some("ann"));
        assert_eq!(roster.next(0), None);
    }
}
