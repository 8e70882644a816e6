//! The clients of one room as others see them: pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::bus::ClientId;
use crate::limits::Keep;
use crate::sync::OnceLock;

/// The most bytes of subjects and facts on one page or in one notice, but for a single client.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// The facts about a client that its room shows to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The subject of the client's credentials; `None` for a client without credentials.
    pub subject: Option<Arc<str>>,
    /// Further facts, as a JSON object; `None` without any.
    pub info: Option<Arc<str>>,
}

impl Shown {
    fn bytes(&self) -> usize {
        let len = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        len(&self.subject) + len(&self.info)
    }
}

/// A part of the clients of a room, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Page {
    /// The clients of the page.
    pub clients: Vec<(ClientId, Shown)>,
    /// The number of all clients of the room.
    pub num_clients: usize,
    /// The number of all different subjects in the room. Clients without a subject have none.
    pub num_subjects: usize,
    /// Whether clients follow that are not on the page.
    pub more: bool,
    /// Whether the page has the numbers alone: in a kind that only counts its clients, and where no
    /// client was asked for.
    pub is_count: bool,
    /// The page in the JSON of `busline.v1.json`, once it was asked for.
    pub(super) json: OnceLock<Box<str>>,
}

impl Page {
    /// The only page of a room in which no client is.
    pub(crate) fn of_nothing(keep: Keep) -> Self {
        Self {
            is_count: keep == Keep::Count,
            ..Self::default()
        }
    }
}

/// The numbers of clients and subjects of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) clients: usize,
    pub(super) subjects: usize,
}

/// The clients of one room.
#[derive(Debug, Default)]
pub(super) struct Roll {
    clients: BTreeMap<ClientId, Shown>,
    /// The number of clients of each subject.
    subjects: BTreeMap<Arc<str>, usize>,
    /// The first page as it was made last, and its most clients; `None` once a client has changed.
    first: Option<(usize, Arc<Page>)>,
}

impl Roll {
    /// Adds a client, or replaces the facts about it; returns the facts that were shown before.
    pub(super) fn enter(&mut self, id: ClientId, shown: Shown) -> Option<Shown> {
        self.first = None;
        if let Some(subject) = &shown.subject {
            *self.subjects.entry(Arc::clone(subject)).or_default() += 1;
        }
        let before = self.clients.insert(id, shown);
        if let Some(before) = &before {
            self.forget(before);
        }
        before
    }

    /// Removes a client; returns the facts that were shown of it, unless it was not there.
    pub(super) fn leave(&mut self, id: ClientId) -> Option<Shown> {
        let shown = self.clients.remove(&id)?;
        self.first = None;
        self.forget(&shown);
        Some(shown)
    }

    fn forget(&mut self, shown: &Shown) {
        let Some(subject) = &shown.subject else {
            return;
        };
        if let Some(count) = self.subjects.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                self.subjects.remove(subject);
            }
        }
    }

    pub(super) fn count(&self) -> Count {
        Count {
            clients: self.clients.len(),
            subjects: self.subjects.len(),
        }
    }

    /// The page after this client, of at most `most` clients, or for 0 the counts alone; the first
    /// page is made once a change at most.
    pub(super) fn page(&mut self, after: Option<ClientId>, most: usize) -> Arc<Page> {
        if let (Some((made_of, page)), None) = (&self.first, after)
            && *made_of == most
        {
            return Arc::clone(page);
        }
        let page = Arc::new(self.make_page(after, most));
        if after.is_none() {
            self.first = Some((most, Arc::clone(&page)));
        }
        page
    }

    fn make_page(&self, after: Option<ClientId>, most: usize) -> Page {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.clients.range((from, Bound::Unbounded));
        let listed = fitting(rest.clone().take(most).map(|(_, shown)| shown));
        let mut rest = rest.map(|(id, shown)| (*id, shown.clone()));
        let clients: Vec<_> = rest.by_ref().take(listed).collect();
        let Count {
            clients: all,
            subjects,
        } = self.count();
        Page {
            clients,
            num_clients: all,
            num_subjects: subjects,
            more: most > 0 && rest.next().is_some(),
            is_count: most == 0,
            json: OnceLock::new(),
        }
    }
}

/// The number of clients that fit together into one page or one notice, at least one.
pub(super) fn fitting<'a>(shown: impl Iterator<Item = &'a Shown>) -> usize {
    let mut bytes = 0;
    let fit = shown.enumerate().take_while(|(index, shown)| {
        bytes += shown.bytes();
        *index == 0 || bytes <= PAGE_BYTES_MAX
    });
    fit.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(subject: &str) -> Shown {
        Shown {
            subject: (!subject.is_empty()).then(|| subject.into()),
            info: None,
        }
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.clients.iter().map(|(id, _)| id.number()).collect()
    }

    #[test]
    fn subjects_are_counted_once_however_many_clients_have_one() {
        let mut roll = Roll::default();
        for (id, subject) in [(1, "ann"), (2, "bob"), (3, "ann"), (4, "")] {
            assert_eq!(roll.enter(ClientId::new(id), shown(subject)), None);
        }
        let counts = |roll: &mut Roll| {
            let page = roll.page(None, 10);
            (page.num_clients, page.num_subjects)
        };
        assert_eq!(counts(&mut roll), (4, 2));
        assert_eq!(roll.leave(ClientId::new(1)), Some(shown("ann")));
        assert_eq!(roll.leave(ClientId::new(1)), None);
        assert_eq!(counts(&mut roll), (3, 2));
        // A fresh token may name another subject.
        assert_eq!(
            roll.enter(ClientId::new(3), shown("bob")),
            Some(shown("ann"))
        );
        assert_eq!(counts(&mut roll), (3, 1));
        for id in [2, 3, 4] {
            roll.leave(ClientId::new(id));
        }
        assert_eq!(counts(&mut roll), (0, 0));
        assert!(roll.subjects.is_empty());
    }

    #[test]
    fn pages_show_each_client_once_and_say_whether_more_follow() {
        let mut roll = Roll::default();
        for id in 1..=5 {
            roll.enter(ClientId::new(id), shown(""));
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = roll.page(after, 2);
            seen.extend(ids(&page));
            assert_eq!(page.num_clients, 5);
            after = page.clients.last().map(|(id, _)| *id);
            assert_eq!(page.more, seen.len() < 5);
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        let counted = roll.page(None, 0);
        assert_eq!((counted.num_clients, counted.more), (5, false));
        assert_eq!(ids(&roll.page(Some(ClientId::new(9)), 2)), [0; 0]);
    }

    #[test]
    fn the_first_page_is_made_once_a_change() {
        let mut roll = Roll::default();
        roll.enter(ClientId::new(1), shown("ann"));
        let first = roll.page(None, 10);
        assert_eq!(roll.count().clients, 1);
        assert!(Arc::ptr_eq(&first, &roll.page(None, 10)));
        assert!(!Arc::ptr_eq(&first, &roll.page(None, 9)));
        let first = roll.page(None, 10);
        roll.leave(ClientId::new(7));
        assert!(Arc::ptr_eq(&first, &roll.page(None, 10)));
        roll.enter(ClientId::new(2), shown(""));
        assert_eq!(ids(&roll.page(None, 10)), [1, 2]);
        roll.leave(ClientId::new(1));
        assert_eq!(ids(&roll.page(None, 10)), [2]);
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_has_one_client_at_least() {
        let mut roll = Roll::default();
        for id in 1..=3 {
            let info = "x".repeat(PAGE_BYTES_MAX - 10);
            let shown = Shown {
                subject: None,
                info: Some(info.into()),
            };
            roll.enter(ClientId::new(id), shown);
        }
        let page = roll.page(None, 10);
        assert_eq!((ids(&page), page.more), (vec![1], true));
        let page = roll.page(Some(ClientId::new(2)), 10);
        assert_eq!((ids(&page), page.more), (vec![3], false));
    }
}
