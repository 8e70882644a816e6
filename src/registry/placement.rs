//! The choice of a thread for each client of a service, without IO.

use std::num::NonZeroU32;

use crate::rt::WorkerId;

/// The clients of a service, counted by the homes that serve them.
///
/// The first clients are served where the service runs: their messages cross no threads. Further
/// clients are spread over the homes.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The home where the service was last started.
    service: Option<WorkerId>,
    /// The homes so far, each at a fixed index.
    homes: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    home: WorkerId,
    clients: usize,
}

/// A client's slot at a home; give it back with [`Placement::leave`].
#[derive(Debug)]
pub(super) struct Spot(
    /// The index of the home plus one, so that an `Option` of a slot is no larger.
    NonZeroU32,
);

impl Spot {
    fn at(index: usize) -> Self {
        let index = u32::try_from(index).expect("there are not as many threads");
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(&self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Placement {
    /// Notes the home where the service runs from now on.
    pub(super) fn starts(&mut self, home: Option<WorkerId>) {
        self.service = home;
    }

    /// Chooses a home for a client that was accepted at `accepted`: the service's home while that
    /// has fewer than `home_clients`, otherwise the home with the fewest clients, in a tie the
    /// client's own.
    pub(super) fn enter(&mut self, accepted: WorkerId, home_clients: usize) -> (WorkerId, Spot) {
        let accepted = self.index(accepted);
        let with_service = self.service.map(|home| self.index(home));
        let with_service = with_service.filter(|at| self.homes[*at].clients < home_clients);
        let index = with_service.unwrap_or_else(|| self.emptiest(accepted));
        let served = &mut self.homes[index];
        served.clients += 1;
        (served.home, Spot::at(index))
    }

    /// Gives a slot back.
    pub(super) fn leave(&mut self, spot: &Spot) {
        let clients = &mut self.homes[spot.index()].clients;
        assert!(*clients > 0, "a client leaves a home that counts none");
        *clients -= 1;
    }

    /// The index of a home; an unknown home is added.
    fn index(&mut self, home: WorkerId) -> usize {
        let known = self.homes.iter().position(|served| served.home == home);
        known.unwrap_or_else(|| {
            self.homes.push(Served { home, clients: 0 });
            self.homes.len() - 1
        })
    }

    fn emptiest(&self, accepted: usize) -> usize {
        let mut best = accepted;
        for (index, served) in self.homes.iter().enumerate() {
            if served.clients < self.homes[best].clients {
                best = index;
            }
        }
        best
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: WorkerId = WorkerId(7);
    const THERE: WorkerId = WorkerId(3);

    /// Places clients that are accepted one after the other; returns their homes.
    fn placed(
        placement: &mut Placement,
        accepted: &[WorkerId],
        home_clients: usize,
    ) -> Vec<WorkerId> {
        let placed = accepted
            .iter()
            .map(|home| placement.enter(*home, home_clients).0);
        placed.collect()
    }

    #[test]
    fn the_first_are_with_the_service_and_the_others_even_it_out() {
        let mut placement = Placement::default();
        placement.starts(Some(HERE));
        let accepted = [THERE, HERE, THERE, HERE, HERE, THERE, HERE];
        let expected = [HERE, HERE, THERE, THERE, HERE, THERE, HERE];
        assert_eq!(placed(&mut placement, &accepted, 2), expected);
    }

    #[test]
    fn without_a_place_of_the_service_they_are_spread() {
        for home_clients in [0, 100] {
            let mut placement = Placement::default();
            let accepted = [HERE, HERE, THERE, HERE, HERE];
            let expected = [HERE, HERE, THERE, THERE, HERE];
            assert_eq!(placed(&mut placement, &accepted, home_clients), expected);
        }
    }

    #[test]
    fn a_place_that_is_given_back_is_taken_again() {
        let mut placement = Placement::default();
        placement.starts(Some(HERE));
        let (_, first) = placement.enter(HERE, 1);
        assert_eq!(placement.enter(THERE, 1).0, THERE);
        placement.leave(&first);
        assert_eq!(placement.enter(THERE, 1).0, HERE);
    }

    proptest! {
        #![proptest_config(crate::cases::cases())]

        #[test]
        fn everybody_is_counted_where_they_are_and_none_is_far_from_room_at_the_service(
            home_clients in 0..6_usize,
            // A step: a client comes at a home, a client leaves, or the service starts at a
            // home.
            steps in prop::collection::vec((0..3_u8, 0..4_u64), 0..80),
        ) {
            let mut placement = Placement::default();
            let mut service = None;
            let mut clients: Vec<(WorkerId, Spot)> = Vec::new();
            for (kind, number) in steps {
                let home = WorkerId(number);
                let served = |home| clients.iter().filter(|(at, _)| *at == home).count();
                match kind {
                    0 => {
                        service = Some(home);
                        placement.starts(service);
                    }
                    1 if !clients.is_empty() => {
                        let at = usize::try_from(number).expect("small") % clients.len();
                        placement.leave(&clients.swap_remove(at).1);
                    }
                    _ => {
                        let room = service.filter(|at| served(*at) < home_clients);
                        let (at, spot) = placement.enter(home, home_clients);
                        prop_assert!(room.is_none_or(|room| room == at));
                        prop_assert!(room.is_some() || served(at) <= served(home));
                        clients.push((at, spot));
                    }
                }
                for Served { home, clients: counted } in &placement.homes {
                    let there = clients.iter().filter(|(at, _)| at == home);
                    prop_assert_eq!(there.count(), *counted);
                }
            }
        }
    }
}
