//! Admission to rooms: exactly the clients are refused that must be, each for its reason.

use std::collections::BTreeSet;

use busline::bus::Room;
use busline::registry::{JoinError, Refusal, RoomsFull, ServiceStatus, State};
use busline::session::AdmitError;

use super::Found;
use crate::core::rooms::{Maker, made_by};
use crate::core::world::World;
use crate::rooms::Rooms;

/// The longest key, in bytes: of the channel of a room 255 are for the kind, a colon and the key.
const KEY_BYTES_MAX: usize = 249;

/// A client that asks for a room, and the moment before.
pub(crate) struct Asked {
    pub(crate) room: Room,
    pub(crate) maker: Maker,
    /// The room, if it was there.
    pub(crate) before: Option<ServiceStatus>,
    /// The reasons why it must be refused.
    reasons: BTreeSet<&'static str>,
}

impl Asked {
    pub(crate) fn new(world: &World, room: &Room, bounds: Rooms, maker: Maker) -> Self {
        let before = world.app.registry().room_status(room);
        let (of_address, of_subject) = made_by(&world.rooms, maker);
        let is_new = before.is_none();
        let is_failed = |status: &ServiceStatus| matches!(status.state, State::Failed { .. });
        let is_full = |status: &ServiceStatus| status.clients >= bounds.clients;
        let open = world.app.sessions_open();
        let reasons = [
            (DRAINS, world.drained.is_some()),
            (FAILED, before.as_ref().is_some_and(is_failed)),
            (FULL, before.as_ref().is_some_and(is_full)),
            (ADDRESS, is_new && of_address >= bounds.per_address),
            (SUBJECT, is_new && of_subject >= bounds.per_subject),
            (ROOMS, is_new && world.rooms.there.len() >= bounds.most),
            (SESSIONS, open >= world.plan.wild.sessions),
        ];
        let reasons = reasons.into_iter().filter(|(_, holds)| *holds);
        Self {
            room: room.clone(),
            maker,
            before,
            reasons: reasons.map(|(reason, _)| reason).collect(),
        }
    }
}

const DRAINS: &str = "client refused a room by the drain";
const FAILED: &str = "client of a failed room refused";
const FULL: &str = "client over the limit of a room refused";
const ADDRESS: &str = "room over the limit of an address refused";
const SUBJECT: &str = "room over the limit of a subject refused";
const ROOMS: &str = "room over the limit refused";
const SESSIONS: &str = "client over the limit refused";

/// The reason that an error gives; `None` of an error that no client of a room may get.
fn reason(error: &AdmitError) -> Option<&'static str> {
    match error {
        AdmitError::Join(JoinError::Refused(refusal)) => Some(match refusal {
            Refusal::Draining => DRAINS,
            Refusal::Failed { .. } => FAILED,
            Refusal::Full { .. } => FULL,
        }),
        AdmitError::Join(JoinError::RoomsFull(full)) => Some(match full {
            RoomsFull::InAll { .. } => ROOMS,
            RoomsFull::OfAddress { .. } => ADDRESS,
            RoomsFull::OfSubject { .. } => SUBJECT,
        }),
        AdmitError::TooManySessions { .. } => Some(SESSIONS),
        AdmitError::Join(
            JoinError::BadKey(_)
            | JoinError::KeyMissing(_)
            | JoinError::Unknown
            | JoinError::WithoutRooms(_),
        )
        | AdmitError::Ended
        | AdmitError::HistoryForbidden
        | AdmitError::Subscribe(_)
        | AdmitError::TooManyOfAddress { .. }
        | AdmitError::TooManyOfSubject { .. } => None,
    }
}

/// A client is refused if and only if there is a reason, and for one that there is.
pub(crate) fn admission_to_room(
    world: &mut World,
    asked: &Asked,
    admitted: Result<(), &AdmitError>,
) -> Found {
    let Asked { room, reasons, .. } = asked;
    match admitted {
        Ok(()) if reasons.is_empty() => Ok(()),
        Ok(()) => Err(format!("a client was let into {room}: {reasons:?}")),
        Err(error) => match reason(error).filter(|reason| reasons.contains(reason)) {
            Some(reason) => {
                world.marks.insert(reason);
                Ok(())
            }
            None => Err(format!(
                "a client was kept out of {room}: {error}, {reasons:?}"
            )),
        },
    }
}

/// A key is refused if and only if it is none; the empty one is that of a room without an address.
pub(crate) fn key(key: &str, refused: Option<&JoinError>) -> Found {
    let is_key = key.len() <= KEY_BYTES_MAX && key.chars().all(|c| (' '..='~').contains(&c));
    match refused {
        Some(error) if is_key => Err(format!("`{key}` was refused: {error}")),
        None if !is_key => Err(format!("`{key}` was taken for a key")),
        Some(_) | None => Ok(()),
    }
}
