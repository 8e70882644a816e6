//! The memberships of a client: at least one, and at most one in a room.

use std::iter;

use super::connection::Connection;
use super::membership::Membership;
use crate::bus::Room;
use crate::rt::Runtime;

/// A client that is served: its connection and its memberships.
pub(super) struct Served<R: Runtime> {
    pub(super) connection: Connection<R>,
    pub(super) memberships: Memberships<R>,
}

/// The memberships of one client, in the order in which it joined.
///
/// Nearly all clients have one, which lies here; the others lie in a box.
pub(super) struct Memberships<R: Runtime> {
    oldest: Membership<R>,
    later: Option<Box<Later<R>>>,
}

/// The further memberships of a client in several rooms, at least one.
struct Later<R: Runtime> {
    members: Vec<Membership<R>>,
    /// The number of turns so far: each turn begins with another membership, so that a busy room
    /// leaves space in the outbox for the others.
    turns: usize,
}

impl<R: Runtime> Memberships<R> {
    pub(super) fn new(oldest: Membership<R>) -> Self {
        Self {
            oldest,
            later: None,
        }
    }

    /// The membership that the client has had for the longest time: a message that names no room is
    /// for its room.
    #[inline]
    pub(super) fn oldest(&self) -> &Membership<R> {
        &self.oldest
    }

    #[inline]
    pub(super) fn oldest_mut(&mut self) -> &mut Membership<R> {
        &mut self.oldest
    }

    fn later(&self) -> &[Membership<R>] {
        self.later.as_ref().map_or(&[], |later| &later.members)
    }

    fn later_mut(&mut self) -> &mut [Membership<R>] {
        let later = self.later.as_mut();
        later.map_or(&mut [], |later| &mut later.members)
    }

    /// The number of memberships.
    #[inline]
    pub(super) fn len(&self) -> usize {
        1 + self.later().len()
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Membership<R>> {
        iter::once(&self.oldest).chain(self.later())
    }

    #[inline]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Membership<R>> {
        let later = self.later.as_mut();
        let later = later.map_or(&mut [][..], |later| &mut later.members[..]);
        iter::once(&mut self.oldest).chain(later)
    }

    /// Whether all memberships are so; a client of one room costs no loop.
    #[inline]
    pub(super) fn all(&self, is_so: impl Fn(&Membership<R>) -> bool) -> bool {
        is_so(&self.oldest)
            && self
                .later
                .as_ref()
                .is_none_or(|later| later.members.iter().all(is_so))
    }

    /// The place of the membership in this room; `None` if the client is not in the room.
    pub(super) fn place(&self, room: &Room) -> Option<usize> {
        self.iter().position(|member| member.room() == room)
    }

    /// The membership at a place below [`len`](Self::len).
    #[inline]
    pub(super) fn at(&mut self, place: usize) -> &mut Membership<R> {
        match place.checked_sub(1) {
            None => &mut self.oldest,
            Some(later) => &mut self.later_mut()[later],
        }
    }

    /// The places in the order of the next turn.
    #[inline]
    pub(super) fn next_turn(&mut self) -> impl Iterator<Item = usize> + use<R> {
        let count = self.len();
        let first = self.later.as_mut().map_or(0, |later| {
            later.turns = later.turns.wrapping_add(1);
            later.turns % count
        });
        (first..count).chain(0..first)
    }

    /// Adds a membership in a room in which the client is not yet.
    pub(super) fn add(&mut self, membership: Membership<R>) {
        // No fan-out writes for a client of several rooms: it would write between their messages.
        self.oldest.egress.broadcast.take_back();
        let none = || {
            Box::new(Later {
                members: Vec::new(),
                turns: 0,
            })
        };
        let later = self.later.get_or_insert_with(none);
        later.members.push(membership);
        self.tell_alone();
    }

    /// Takes a membership out, unless it is the only one.
    pub(super) fn remove(&mut self, place: usize) -> Option<Membership<R>> {
        let later = self.later.as_mut()?;
        let removed = match place.checked_sub(1) {
            None => {
                let next = later.members.remove(0);
                std::mem::replace(&mut self.oldest, next)
            }
            Some(place) => later.members.remove(place),
        };
        if later.members.is_empty() {
            self.later = None;
        }
        self.tell_alone();
        Some(removed)
    }

    /// All memberships.
    pub(super) fn into_iter(self) -> impl Iterator<Item = Membership<R>> {
        let later = self.later.map(|later| later.members);
        iter::once(self.oldest).chain(later.unwrap_or_default())
    }

    fn tell_alone(&mut self) {
        let is_alone = self.later.is_none();
        self.iter_mut()
            .for_each(|member| member.egress.broadcast.is_alone = is_alone);
    }
}
