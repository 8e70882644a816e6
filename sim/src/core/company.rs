//! The clients of a journal, as they are told of each other, in a run of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rules::Found;
use super::world::World;
use crate::past::Company as Notice;

/// Clients of rooms by their numbers in the product.
type Clients = BTreeSet<u64>;

/// The clients of the journals.
#[derive(Default)]
pub(crate) struct Company {
    /// The notices that each client was told; `None` for a client that has missed a notice.
    pub(crate) told: BTreeMap<u32, Option<Told>>,
    /// The clients of each room when its presence was last another, and the time of that or of the
    /// last notice: a client may come and go between two looks.
    pub(crate) changed: BTreeMap<String, (Clients, Duration)>,
}

/// The joins and leaves that a client was told: it knows of all clients that came after it.
#[derive(Debug)]
pub(crate) struct Told {
    own: u64,
    there: Clients,
    gone: Clients,
}

impl Told {
    fn new(own: u64) -> Self {
        Self {
            own,
            there: Clients::new(),
            gone: Clients::new(),
        }
    }

    /// Takes a notice as a client does, which trusts it; returns whether a client took the place of
    /// another.
    fn take(&mut self, notice: &Notice) -> Result<bool, String> {
        for (id, replaced) in &notice.joined {
            replaced.map_or(Ok(()), |replaced| self.leaves(replaced))?;
            if self.gone.contains(id) || !self.there.insert(*id) {
                return Err(format!("was told too late or twice that {id} has joined"));
            }
        }
        for id in &notice.left {
            self.leaves(*id)?;
        }
        Ok(notice.joined.iter().any(|(_, replaced)| replaced.is_some()))
    }

    /// A client has left, once; it may be one that came before this one.
    fn leaves(&mut self, id: u64) -> Found {
        let is_known = self.there.remove(&id) || id < self.own;
        if !is_known || !self.gone.insert(id) {
            return Err(format!("was told that {id} has left, which was not there"));
        }
        Ok(())
    }

    /// Whether it knows of all these clients that are there, as far as they came after it.
    pub(crate) fn knows(&self, there: &Clients) -> bool {
        self.there.range(self.own..).eq(there.range(self.own..))
    }
}

impl World {
    /// Looks at what clients of journals were told of each other, after a step.
    pub(super) fn look_at_company(&mut self) {
        if self
            .plan
            .journal
            .is_none_or(|journal| journal.leave_delay_ms.is_none())
        {
            return;
        }
        let mut all: Vec<Found> = Vec::new();
        for number in self.journals.readers.keys() {
            let Some(client) = self.clients.get(number) else {
                continue;
            };
            let told = self.company.told.entry(*number);
            let told = told.or_insert_with(|| Some(Told::new(client.id.number())));
            for notice in client.peer.company() {
                if let Some((_, at)) = self.company.changed.get_mut(&client.room.to_string()) {
                    *at = self.rt.time();
                }
                told.take_if(|_| notice.missed > 0);
                let Some(told) = told else {
                    continue;
                };
                match told.take(&notice) {
                    Ok(true) => drop(self.marks.insert("client that took the place of another")),
                    Ok(false) => {}
                    Err(text) => all.push(Err(format!("client {number} {text}"))),
                }
            }
        }
        for found in all {
            self.judge("company", found);
        }
    }
}
