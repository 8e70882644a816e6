//! Decides which connections have a slot until they are upgraded, and which gives way to a
//! newcomer; pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::client::address::group;
use crate::metrics::DisplaceReason as Bound;

/// The maximum numbers of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) in_all: usize,
    /// Slots of one IPv4 address, or one /64 of IPv6.
    pub(super) per_address: usize,
}

/// The address of a connection, as the bounds count it; `None` on a Unix socket.
type Owner = Option<IpAddr>;

/// A connection that asks for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    owner: Owner,
    /// Whether its address has a bound; a proxy has none, because many clients come through it.
    is_bounded: bool,
}

impl Newcomer {
    pub(super) fn of(address: Option<IpAddr>, is_proxy: bool) -> Self {
        Self {
            owner: address.map(group),
            is_bounded: address.is_some() && !is_proxy,
        }
    }
}

/// The number of a connection, in the order of arrival.
pub(super) type Number = u64;

/// All connections with a slot, each with a `T` that tells it to close.
///
/// At the bound of an address, a connection of that address gives way. At the bound in total, a
/// connection gives way whose address has the most connections without a whole request head: a
/// flood from one address therefore costs other addresses nothing, however slow their clients are.
/// Among the connections of that address the oldest gives way, because it has had the most time. A
/// connection whose client has its response gives way before all others, because no work is left
/// for it. A connection that is being served never gives way.
///
/// Each step takes time logarithmic in the number of connections.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    bounds: Bounds,
    next: Number,
    held: BTreeMap<Number, Held<T>>,
    /// The owners that have a connection.
    owners: BTreeMap<Owner, Owned>,
    answered: BTreeSet<Number>,
    /// The owners of connections without a whole request head, by the number of those connections,
    /// then by the age of the oldest.
    fullest: BTreeSet<Rank>,
}

type Rank = (usize, Reverse<Number>, Owner);

#[derive(Debug)]
struct Held<T> {
    owner: Owner,
    tell: T,
}

/// The connections of one owner.
#[derive(Debug, Default)]
struct Owned {
    count: usize,
    answered: BTreeSet<Number>,
    waiting: BTreeSet<Number>,
}

impl Owned {
    fn rank(&self, owner: Owner) -> Option<Rank> {
        let oldest = self.waiting.first()?;
        Some((self.waiting.len(), Reverse(*oldest), owner))
    }
}

/// A connection that has given way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Displaced<T> {
    /// The bound that was reached.
    pub(super) bound: Bound,
    /// Tells the connection to close.
    pub(super) tell: T,
}

impl<T> Crowd<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next: 0,
            held: BTreeMap::new(),
            owners: BTreeMap::new(),
            answered: BTreeSet::new(),
            fullest: BTreeSet::new(),
        }
    }

    /// Makes room for a newcomer, for which another connection may have to give way.
    ///
    /// # Errors
    ///
    /// The bound that is reached, if all connections that could give way are being served.
    pub(super) fn make_room(&mut self, newcomer: Newcomer) -> Result<Option<Displaced<T>>, Bound> {
        let own = self.owners.get(&newcomer.owner);
        let count = own.map_or(0, |own| own.count);
        if newcomer.is_bounded && count >= self.bounds.per_address {
            let first = own.and_then(|own| own.answered.first().or_else(|| own.waiting.first()));
            return self.displace(first.copied(), Bound::HandshakesPerAddress);
        }
        if self.held.len() < self.bounds.in_all {
            return Ok(None);
        }
        let oldest_of_fullest = self.fullest.last().map(|(_, Reverse(oldest), _)| oldest);
        let first = self.answered.first().or(oldest_of_fullest);
        self.displace(first.copied(), Bound::Handshakes)
    }

    fn displace(
        &mut self,
        number: Option<Number>,
        bound: Bound,
    ) -> Result<Option<Displaced<T>>, Bound> {
        let tell = number.and_then(|number| self.leave(number)).ok_or(bound)?;
        Ok(Some(Displaced { bound, tell }))
    }

    /// Gives a slot to a newcomer; there must be room.
    pub(super) fn enter(&mut self, newcomer: Newcomer, tell: T) -> Number {
        let number = self.next;
        self.next += 1;
        let owner = newcomer.owner;
        self.held.insert(number, Held { owner, tell });
        self.change(owner, |owned| {
            owned.count += 1;
            owned.waiting.insert(number);
        });
        number
    }

    /// Notes that a whole request head has arrived.
    ///
    /// Returns `false` if the connection has given way, and must not be served.
    pub(super) fn serve(&mut self, number: Number) -> bool {
        let Some(owner) = self.owner(number) else {
            return false;
        };
        self.change(owner, |owned| {
            owned.waiting.remove(&number);
        });
        true
    }

    /// Notes that the client has its response; only the end of the connection is missing.
    pub(super) fn answered(&mut self, number: Number) {
        if let Some(owner) = self.owner(number) {
            self.answered.insert(number);
            self.change(owner, |owned| {
                owned.waiting.remove(&number);
                owned.answered.insert(number);
            });
        }
    }

    /// Frees the slot of a connection; `None` if it has already given way.
    pub(super) fn leave(&mut self, number: Number) -> Option<T> {
        let Held { owner, tell } = self.held.remove(&number)?;
        self.answered.remove(&number);
        self.change(owner, |owned| {
            owned.count -= 1;
            owned.answered.remove(&number);
            owned.waiting.remove(&number);
        });
        Some(tell)
    }

    fn owner(&self, number: Number) -> Option<Owner> {
        self.held.get(&number).map(|held| held.owner)
    }

    /// Changes the connections of an owner, and updates its rank.
    fn change(&mut self, owner: Owner, change: impl FnOnce(&mut Owned)) {
        let owned = self.owners.entry(owner).or_default();
        if let Some(rank) = owned.rank(owner) {
            self.fullest.remove(&rank);
        }
        change(owned);
        self.fullest.extend(owned.rank(owner));
        if owned.count == 0 {
            self.owners.remove(&owner);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A crowd whose connections carry their own number.
    struct Door {
        crowd: Crowd<Number>,
        came: Number,
    }

    impl Door {
        fn new(in_all: usize, per_address: usize) -> Self {
            let crowd = Crowd::new(Bounds {
                in_all,
                per_address,
            });
            Self { crowd, came: 0 }
        }

        /// Returns the number of the newcomer, and the connection that gave way, with the bound.
        fn enter(
            &mut self,
            newcomer: Newcomer,
        ) -> Result<(Number, Option<(Number, Bound)>), Bound> {
            let displaced = self.crowd.make_room(newcomer)?;
            let number = self.crowd.enter(newcomer, self.came);
            assert_eq!(number, self.came);
            self.came += 1;
            Ok((number, displaced.map(|gone| (gone.tell, gone.bound))))
        }

        /// The connection that gives way to the newcomer.
        fn displaced(&mut self, newcomer: Newcomer) -> Option<(Number, Bound)> {
            self.enter(newcomer).expect("there is a place").1
        }

        /// Lets `count` connections enter, for which there is room.
        fn fill(&mut self, count: usize, newcomer: Newcomer) {
            for _ in 0..count {
                assert_eq!(self.displaced(newcomer), None);
            }
        }
    }

    fn client(last: u8) -> Newcomer {
        Newcomer::of(Some([192, 0, 2, last].into()), false)
    }

    fn proxy(last: u8) -> Newcomer {
        Newcomer::of(Some([192, 0, 2, last].into()), true)
    }

    #[test]
    fn the_oldest_of_an_address_gives_way_at_its_bound_and_nobody_elses() {
        let mut door = Door::new(9, 2);
        door.fill(1, client(1));
        door.fill(2, client(2));
        assert_eq!(
            door.displaced(client(2)),
            Some((1, Bound::HandshakesPerAddress))
        );
        assert_eq!(
            door.displaced(client(2)),
            Some((2, Bound::HandshakesPerAddress))
        );
        assert_eq!(door.displaced(client(1)), None);
    }

    #[test]
    fn a_flood_gives_way_to_those_who_came_before_it() {
        let mut door = Door::new(6, 9);
        door.fill(2, client(1));
        door.fill(4, client(2));
        // The slow connections of another address are older, but fewer.
        assert_eq!(door.displaced(client(2)), Some((2, Bound::Handshakes)));
        assert_eq!(door.displaced(client(3)), Some((3, Bound::Handshakes)));
        assert_eq!(door.displaced(client(3)), Some((4, Bound::Handshakes)));
        // With equal numbers, the address with the oldest connection gives way.
        assert_eq!(door.displaced(client(4)), Some((0, Bound::Handshakes)));
    }

    #[test]
    fn a_proxy_has_no_bound_of_its_own_and_gives_way_all_the_same() {
        let mut door = Door::new(5, 2);
        door.fill(1, client(2));
        door.fill(4, proxy(1));
        assert_eq!(door.displaced(client(3)), Some((1, Bound::Handshakes)));
        assert_eq!(door.displaced(proxy(1)), Some((2, Bound::Handshakes)));
    }

    #[test]
    fn a_connection_that_is_served_does_not_give_way_and_one_that_was_answered_does_first() {
        let mut door = Door::new(3, 2);
        door.fill(2, client(1));
        assert!(door.crowd.serve(0));
        assert_eq!(
            door.displaced(client(1)),
            Some((1, Bound::HandshakesPerAddress))
        );
        assert!(!door.crowd.serve(1), "it has given way");
        assert!(door.crowd.serve(2));
        assert_eq!(door.enter(client(1)), Err(Bound::HandshakesPerAddress));
        door.fill(1, client(2));
        assert!(door.crowd.serve(3));
        assert_eq!(door.enter(client(3)), Err(Bound::Handshakes));
        assert_eq!(
            door.enter(client(1)),
            Err(Bound::HandshakesPerAddress),
            "its own bound"
        );
        door.crowd.answered(2);
        assert_eq!(door.displaced(client(3)), Some((2, Bound::Handshakes)));
        door.crowd.answered(0);
        door.crowd.answered(1);
        // Older connections wait, but this connection has its response.
        assert_eq!(door.displaced(client(2)), Some((0, Bound::Handshakes)));
    }

    #[test]
    fn addresses_of_one_64_have_one_bound_and_a_unix_socket_has_none() {
        let mut door = Door::new(9, 1);
        let of = |text: &str| Newcomer::of(Some(text.parse().expect("an address")), false);
        door.fill(1, of("2001:db8::1"));
        let same = door.displaced(of("2001:db8::ffff:1"));
        assert_eq!(same, Some((0, Bound::HandshakesPerAddress)));
        door.fill(1, of("2001:db8:0:1::1"));
        door.fill(3, Newcomer::of(None, false));
    }

    /// An event of a crowd.
    #[derive(Clone, Debug)]
    enum Event {
        Enter(u8, bool),
        Serve(prop::sample::Index),
        Answered(prop::sample::Index),
        Leave(prop::sample::Index),
    }

    fn event() -> impl Strategy<Value = Event> {
        let one = any::<prop::sample::Index>;
        prop_oneof![
            4 => (0..5_u8, any::<bool>()).prop_map(|(last, proxy)| Event::Enter(last, proxy)),
            2 => one().prop_map(Event::Serve),
            1 => one().prop_map(Event::Answered),
            1 => one().prop_map(Event::Leave),
        ]
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Stage {
        Answered,
        Served,
        Waiting,
    }

    /// All connections with a slot, the oldest first, each with its owner and its stage.
    type Model = Vec<(Number, Owner, Stage)>;

    /// The connection that must give way, found by a linear search.
    fn to_displace(
        model: &Model,
        newcomer: Newcomer,
        bounds: Bounds,
    ) -> Result<Option<(Number, Bound)>, Bound> {
        let oldest = |owner: Option<Owner>, stage: Stage| {
            let is_one = |(_, own, at): &&(Number, Owner, Stage)| {
                *at == stage && owner.is_none_or(|owner| owner == *own)
            };
            model.iter().find(is_one).map(|(number, ..)| *number)
        };
        let own = newcomer.owner;
        let waiting = |owner: Owner| {
            let is_one =
                |(_, own, at): &&(Number, Owner, Stage)| *own == owner && *at == Stage::Waiting;
            model.iter().filter(is_one).count()
        };
        let count = model.iter().filter(|(_, owner, _)| *owner == own).count();
        let (first, bound) = if newcomer.is_bounded && count >= bounds.per_address {
            let first = oldest(Some(own), Stage::Answered);
            let first = first.or_else(|| oldest(Some(own), Stage::Waiting));
            (first, Bound::HandshakesPerAddress)
        } else if model.len() >= bounds.in_all {
            let most = model.iter().map(|(_, owner, _)| waiting(*owner)).max();
            let of_most = model
                .iter()
                .find(|(_, owner, at)| *at == Stage::Waiting && Some(waiting(*owner)) == most);
            let first = oldest(None, Stage::Answered);
            let first = first.or_else(|| of_most.map(|(number, ..)| *number));
            (first, Bound::Handshakes)
        } else {
            return Ok(None);
        };
        first.map(|first| Some((first, bound))).ok_or(bound)
    }

    proptest! {
        #![proptest_config(crate::cases::cases())]

        /// After any sequence of events the right connection gives way, no bound is exceeded, and
        /// no state is left over.
        #[test]
        fn the_right_one_gives_way_whatever_happens(
            (in_all, per_address) in (1..9_usize, 1..5_usize),
            events in prop::collection::vec(event(), 0..60),
        ) {
            let bounds = Bounds { in_all, per_address };
            let mut door = Door::new(in_all, per_address);
            let mut model = Model::new();
            for event in events {
                match event {
                    Event::Enter(last, is_proxy) => {
                        let address = (last > 0).then(|| [192, 0, 2, last].into());
                        let newcomer = Newcomer::of(address, is_proxy);
                        let expected = to_displace(&model, newcomer, bounds);
                        let entered = door.enter(newcomer);
                        prop_assert_eq!(entered.map(|(_, displaced)| displaced), expected);
                        if let Ok((number, displaced)) = entered {
                            model.retain(|(at, ..)| displaced.is_none_or(|(gone, _)| gone != *at));
                            model.push((number, newcomer.owner, Stage::Waiting));
                        }
                    }
                    Event::Serve(index) if !model.is_empty() => {
                        let one = index.get(&model).0;
                        prop_assert!(door.crowd.serve(one));
                        let own = model.iter_mut().find(|(number, ..)| *number == one);
                        let own = own.expect("it was chosen");
                        if own.2 == Stage::Waiting {
                            own.2 = Stage::Served;
                        }
                    }
                    Event::Answered(index) if !model.is_empty() => {
                        let one = index.get(&model).0;
                        door.crowd.answered(one);
                        let own = model.iter_mut().find(|(number, ..)| *number == one);
                        own.expect("it was chosen").2 = Stage::Answered;
                    }
                    Event::Leave(index) if !model.is_empty() => {
                        let one = index.get(&model).0;
                        prop_assert_eq!(door.crowd.leave(one), Some(one));
                        prop_assert_eq!(door.crowd.leave(one), None);
                        model.retain(|(number, ..)| *number != one);
                    }
                    Event::Serve(_) | Event::Answered(_) | Event::Leave(_) => {}
                }
                prop_assert!(model.len() <= in_all);
            }
            for (number, ..) in model {
                prop_assert_eq!(door.crowd.leave(number), Some(number));
            }
            let crowd = door.crowd;
            prop_assert!(crowd.held.is_empty() && crowd.owners.is_empty());
            prop_assert!(crowd.answered.is_empty() && crowd.fullest.is_empty());
        }
    }
}
