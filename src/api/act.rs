//! The acts of callers on what there is: connections closed, histories emptied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::request::{self, Channel, Disconnect, Refresh, Unsubscribe};
use super::{Answer, Caller, Fault};
use crate::bus::{ClientId, Room, Topic};
use crate::caller::Method;
use crate::rt::Runtime;
use crate::wire::{CLOSE_REASON_BYTES_MAX, CloseCode, CloseFrame};

/// The code and the reason with which a connection is closed unless the caller names others.
const DISCONNECTED: Parting = Parting(3503, "force disconnect");

/// The code and the reason for a connection whose only membership ends.
const UNSUBSCRIBED: Parting = Parting(4500, "server unsubscribe");

/// The code and the reason for a connection whose credentials end.
const EXPIRED: Parting = Parting(3005, "connection expired");

/// The smallest code that busline closes a connection with for a caller, of those of libraries.
const LIBRARY_CODE_MIN: i64 = 3001;

/// A code and a reason of this server.
struct Parting(u16, &'static str);

impl Parting {
    fn frame(&self) -> CloseFrame {
        CloseFrame::new(CloseCode::new(self.0), self.1)
    }
}

/// The connections that a caller means: those that have all that is given.
#[derive(Default)]
struct Meant<'a> {
    user: &'a str,
    client: &'a str,
    /// A channel.
    room: &'a str,
    session: &'a str,
}

impl<R: Runtime> Caller<'_, R> {
    /// Closes connections.
    pub(super) fn disconnect(&self, asked: &Disconnect) -> Result<Answer, Fault> {
        let frame = asked.disconnect.as_ref().map(frame).transpose()?;
        let frame = frame.unwrap_or_else(|| DISCONNECTED.frame());
        let meant = Meant {
            user: &asked.user,
            client: &asked.client,
            room: &asked.room,
            session: &asked.session,
        };
        if asked.user.is_empty() && asked.client.is_empty() && asked.room.is_empty() {
            return Err(Fault::bad("name a `user`, a `client` or a `room`"));
        }
        let mut clients = self.meant(&meant)?;
        let stay: BTreeSet<_> = asked.whitelist.iter().filter_map(|id| number(id)).collect();
        clients.retain(|(id, _)| !stay.contains(id));
        self.close(Method::Disconnect, &clients, frame);
        Ok(Answer::DONE)
    }

    /// Takes clients out of a room, or out of every one: a connection has no other, and is closed.
    pub(super) fn unsubscribe(&self, asked: &Unsubscribe) -> Result<Answer, Fault> {
        if asked.user.is_empty() && asked.client.is_empty() {
            return Err(Fault::bad("name a `user` or a `client`"));
        }
        let clients = self.meant(&Meant {
            user: &asked.user,
            client: &asked.client,
            room: &asked.channel,
            session: &asked.session,
        })?;
        self.close(Method::Unsubscribe, &clients, UNSUBSCRIBED.frame());
        Ok(Answer::DONE)
    }

    /// Ends credentials: connections that are expired are closed.
    pub(super) fn refresh(&self, asked: &Refresh) -> Result<Answer, Fault> {
        if asked.user.is_empty() && asked.client.is_empty() {
            return Err(Fault::bad("name a `user` or a `client`"));
        }
        let clients = self.meant(&Meant {
            user: &asked.user,
            client: &asked.client,
            session: &asked.session,
            ..Meant::default()
        })?;
        if clients.is_empty() {
            return Ok(Answer::DONE);
        }
        let at = u64::try_from(asked.expire_at).unwrap_or_default();
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(at));
        let is_past = end.is_some_and(|end| end <= self.app.rt().wall());
        let is_over = asked.expired || (asked.expire_at != 0 && is_past);
        if !is_over {
            let why = "credentials can end here and now; clients show newer ones themselves";
            return Err(Fault::not_available(why));
        }
        self.close(Method::Refresh, &clients, EXPIRED.frame());
        Ok(Answer::DONE)
    }

    /// Removes the messages of a history; its position stays.
    pub(super) fn history_remove(&self, asked: &Channel) -> Result<Answer, Fault> {
        let room = self.room(&asked.channel)?;
        let topic = Topic::from_service_to_ws(&room);
        let removed = self.app.bus().remove_history(&topic);
        removed.ok_or_else(|| Fault::not_available("there is no history here"))?;
        self.note(Method::HistoryRemove, "a history", 1);
        Ok(Answer::DONE)
    }

    fn close(&self, method: Method, clients: &[(ClientId, Room)], frame: CloseFrame) {
        let frame = Arc::new(frame);
        for (id, room) in clients {
            self.app.close_client(room, *id, &frame);
        }
        self.note(method, "connections", clients.len());
    }

    fn meant(&self, meant: &Meant<'_>) -> Result<Vec<(ClientId, Room)>, Fault> {
        let directory = self.app.directory();
        if !meant.session.is_empty() {
            return Err(Fault::not_available("connections have no `session` here"));
        }
        let room = match meant.room {
            "" => None,
            channel => Some(self.room(channel)?),
        };
        if !directory.is_kept() {
            let why = "clients are listed only by a server that began with a key";
            return Err(Fault::not_available(why));
        }
        let ids = match (meant.client, meant.user, &room) {
            ("", "", Some(room)) => directory.of_room(room),
            ("", user, _) => directory.of_subject(user),
            (client, _, _) => number(client).into_iter().collect(),
        };
        let user = Some(meant.user).filter(|user| !user.is_empty());
        let is_meant = |id: ClientId| {
            let place = directory.client(id)?;
            let is_user = user.is_none_or(|user| place.subject.as_deref() == Some(user));
            let is_room = room.as_ref().is_none_or(|room| *room == place.room);
            let may = self.rights.reach(place.room.kind());
            (is_user && is_room && may).then_some((id, place.room))
        };
        Ok(ids.into_iter().filter_map(is_meant).collect())
    }
}

/// The number of a client in a text as presence writes it.
fn number(text: &str) -> Option<ClientId> {
    let number = text.parse::<u64>().ok().map(ClientId::new)?;
    (number.to_string() == text).then_some(number)
}

/// The close frame that a caller names.
fn frame(close: &request::Close) -> Result<CloseFrame, Fault> {
    let bad = Fault::bad("`code` is 1000-1003, 1007-1014 or 3001-4999");
    let code = u16::try_from(close.code).map(CloseCode::new);
    let code = code.ok().filter(|code| code.allowed_on_wire());
    // 3000 means to no client that it was told to go.
    let is_known = close.code < 3000 || close.code >= LIBRARY_CODE_MIN;
    let code = code.filter(|_| is_known).ok_or(bad)?;
    if close.reason.len() > CLOSE_REASON_BYTES_MAX {
        return Err(Fault::bad("`reason` has at most 123 bytes"));
    }
    Ok(CloseFrame::new(code, &close.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_that_a_close_frame_may_carry_and_3000_is_none() {
        for code in -1..=70_000 {
            let reason = "r".to_owned();
            let made = frame(&request::Close { code, reason });
            let expected = matches!(code, 1000..=1003 | 1007..=1014 | 3001..=4999);
            assert_eq!(made.is_ok(), expected, "{code}");
        }
    }

    #[test]
    fn a_reason_is_as_long_as_a_close_frame_carries_and_no_longer() {
        for (bytes, is_taken) in [(0, true), (123, true), (124, false)] {
            let reason = "r".repeat(bytes);
            let made = frame(&request::Close {
                code: 4000,
                reason: reason.clone(),
            });
            assert_eq!(made.is_ok(), is_taken, "{bytes}");
            assert!(made.is_err() || made.is_ok_and(|made| made.reason() == reason));
        }
    }

    #[test]
    fn a_client_is_named_by_its_number_alone() {
        assert_eq!(number("42"), Some(ClientId::new(42)));
        for wrong in ["", "+42", "042", "4 2", "18446744073709551616", "x"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
