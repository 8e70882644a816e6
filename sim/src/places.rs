//! The positions that clients of rooms with a history have, from which others go on: a client that
//! comes back is another client of the plan.

use std::collections::BTreeMap;

use crate::past::{Fact, Place, Placed};
use crate::rooms::asked;
use crate::shared::Shared;
use crate::wild::Shows;

/// The last position of each client; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Places(Shared<BTreeMap<u32, Place>>);

impl Places {
    /// Notes that a client was told a position.
    pub(crate) fn told(&self, client: u32, fact: &Fact) {
        let (Fact::Position(place) | Fact::Recovered { place, .. }) = fact else {
            return;
        };
        self.0.with(|places| match (places.get_mut(&client), fact) {
            // A client that recovers stands where it stood.
            (Some(_), Fact::Recovered { why: None, .. }) => {}
            _ => drop(places.insert(client, place.clone())),
        });
    }

    /// Notes that a client was given a text.
    pub(crate) fn given(&self, client: u32, placed: &Placed) {
        self.0.with(|places| {
            if let (Some(place), Some(offset)) = (places.get_mut(&client), placed.offset) {
                place.offset = offset;
            }
        });
    }

    /// The path and the query by which a client asks for its room, with its wish; it stands where
    /// the client stands whose position it shows.
    pub(crate) fn wishing(&self, client: u32, path: &str, wish: &Wish) -> String {
        let mut asked = asked(path, client);
        let shown = self.0.with(|places| {
            let shown = wish.shown(places);
            places.remove(&client);
            if let Some(place) = &shown {
                places.insert(client, place.clone());
            }
            shown
        });
        if let Some(Place { epoch, offset }) = shown {
            asked += &format!("&since={epoch}:{offset}");
        }
        if wish.last > 0 {
            asked += &format!("&history={}", wish.last);
        }
        asked
    }
}

/// The wish of a client, as a plan has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) shows: Shows,
    pub(crate) ahead: u64,
    pub(crate) last: u64,
}

impl Wish {
    fn shown(&self, places: &BTreeMap<u32, Place>) -> Option<Place> {
        let place = match self.shows {
            Shows::Nothing => return None,
            Shows::Beginning => Place::default(),
            Shows::Of(client) => places.get(&client)?.clone(),
        };
        let offset = place.offset + self.ahead;
        Some(Place { offset, ..place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_shows_the_last_position_of_another() {
        let places = Places::default();
        let place = |offset| Place {
            epoch: "e".to_owned(),
            offset,
        };
        let wish = |shows| Wish {
            shows,
            ahead: 0,
            last: 2,
        };
        let asks = |client, shows| places.wishing(client, "journal/a", &wish(shows));
        assert_eq!(asks(1, Shows::Nothing), "journal/a?n=1&history=2");
        assert_eq!(
            asks(2, Shows::Beginning),
            "journal/a?n=2&since=:0&history=2"
        );
        places.told(1, &Fact::Position(place(3)));
        let text = "t".to_owned();
        let offset = Some(4);
        places.given(1, &Placed { text, offset });
        assert_eq!(asks(2, Shows::Of(1)), "journal/a?n=2&since=e:4&history=2");
        places.told(
            2,
            &Fact::Recovered {
                place: place(9),
                why: None,
            },
        );
        assert_eq!(asks(3, Shows::Of(2)), "journal/a?n=3&since=e:4&history=2");
        let why = Some("epoch".to_owned());
        places.told(
            3,
            &Fact::Recovered {
                place: place(9),
                why,
            },
        );
        assert_eq!(asks(4, Shows::Of(3)), "journal/a?n=4&since=e:9&history=2");
        assert_eq!(asks(5, Shows::Of(77)), "journal/a?n=5&history=2");
    }
}
