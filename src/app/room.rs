//! Handles of rooms, for the program that embeds busline and for other services.

use std::sync::Arc;

use super::App;
use crate::bus::{
    self, Batch, Client, ClientId, Delivery, EndError, Ended, HistoryError, Maker, MessageBus,
    Position, Published, Reading, Room, Topic,
};
use crate::presence;
use crate::registry::{JoinError, Page, ServiceStatus};
use crate::rt::Runtime;
use crate::wire::{CloseCode, CloseFrame};

/// A room from outside: from any task, and from another service.
///
/// A handle neither makes a room nor keeps one. In a room that does not exist nobody is there.
pub struct RoomHandle<R: Runtime> {
    app: App<R>,
    room: Room,
}

impl<R: Runtime> Clone for RoomHandle<R> {
    fn clone(&self) -> Self {
        Self {
            app: self.app.clone(),
            room: self.room.clone(),
        }
    }
}

impl<R: Runtime> App<R> {
    /// The room of this kind with this key.
    ///
    /// # Errors
    ///
    /// When there is no such kind of rooms, or the key is no key.
    pub fn room(&self, kind: &str, key: &str) -> Result<RoomHandle<R>, JoinError> {
        Ok(RoomHandle {
            app: self.clone(),
            room: self.registry().room(kind, Some(key))?,
        })
    }

    /// The rooms of a page with their numbers of clients, in the order of their keys; none if there
    /// is no such kind. A lobby shows them.
    pub fn rooms(&self, kind: &str, page: &Page<'_>) -> Vec<(Room, usize)> {
        self.registry().rooms(kind, page)
    }
}

impl<R: Runtime> RoomHandle<R> {
    /// The kind and the key.
    pub fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn app(&self) -> &App<R> {
        &self.app
    }

    /// The state of the room; `None` if it does not exist at present.
    pub fn status(&self) -> Option<ServiceStatus> {
        self.app.registry().room_status(&self.room)
    }

    /// The clients of the room, in the order of their admission; none in a kind that does not know
    /// its [`members`](crate::ServicePolicy::members).
    pub fn clients(&self) -> Vec<Client> {
        self.app.registry().clients(&self.room)
    }

    /// The clients of the room as others see them, which follow `after` in the order of their
    /// numbers, and the numbers of all. `None` in a kind whose [presence](crate::limits::Keep) is
    /// not kept.
    ///
    /// A page has at most [`PresenceLimits::clients`](crate::limits::PresenceLimits::clients)
    /// clients.
    pub fn presence(&self, after: Option<ClientId>) -> Option<Arc<presence::Page>> {
        let most = self.app.limits().presence.clients;
        self.app.registry().presence(&self.room, after, most)
    }

    /// Publishes a message or a batch to all clients, and returns their number: 0 also once the
    /// stream of the room [has ended](Self::end). Never waits.
    pub fn publish(&self, messages: impl Into<Batch>) -> usize {
        self.app.bus().publish(&self.to_all(), messages.into())
    }

    /// Publishes a message or a batch as [`publish`](Self::publish) does, and returns all that is
    /// known of it.
    ///
    /// # Errors
    ///
    /// When the stream of the room has ended.
    pub fn try_publish(&self, messages: impl Into<Batch>) -> Result<Published, Ended> {
        let maker = Maker::default();
        let bus = self.app.bus();
        let published = bus.publish_by(&self.to_all(), messages.into(), &maker);
        match published.has_ended {
            true => Err(Ended),
            false => Ok(published),
        }
    }

    /// Ends the stream of the room, with JSON as the data of the end, such as `null`; returns the
    /// position of the end in the history.
    ///
    /// Clients receive all messages before, then the end, and are closed with the code 1000. The
    /// room takes no further message, and tells each client that comes of the end, as long as the
    /// position of its history is known: longer than its messages, and over a planned
    /// restart with a history file. A room needs no client for its end.
    ///
    /// # Errors
    ///
    /// When the kind has no history, the stream has ended before, or the data are no JSON or have
    /// more than [`END_BYTES_MAX`](crate::bus::END_BYTES_MAX) bytes.
    pub fn end(&self, data: &str) -> Result<Position, EndError> {
        let maker = Maker::default();
        self.app.bus().end(&self.to_all(), data.into(), &maker)
    }

    /// Whether the stream of the room has ended.
    pub fn has_ended(&self) -> bool {
        self.app.bus().has_ended(&self.to_all())
    }

    /// Publishes a message or a batch as [`publish`](Self::publish) does, and returns the position
    /// of the last message in the history of the room; `None` without a history, for a batch that
    /// is published [live](Batch::live) alone, and once the stream of the room has ended.
    ///
    /// A room needs no client to keep the messages. The program itself counts as the maker of a
    /// history that begins with them.
    pub fn record(&self, messages: impl Into<Batch>) -> Option<Position> {
        self.try_publish(messages).ok()?.position
    }

    /// Reads from the history of the room, at most
    /// [`history_read_max`](crate::limits::HistoryLimits::history_read_max) messages; the history
    /// of a room that is not known is empty.
    ///
    /// # Errors
    ///
    /// When the kind has no history, or the reading wants another epoch.
    pub fn history(&self, reading: &Reading) -> Result<bus::Page, HistoryError> {
        self.app.history(&self.room, reading)
    }

    /// The position of the room's history: its epoch, and the offset of its newest message; `None`
    /// if the kind has no history.
    pub fn position(&self) -> Option<Position> {
        self.app.bus().position(&self.to_all())
    }

    /// Removes all messages from the history of the room, and returns its position, which stays;
    /// `None` if the kind has no history.
    pub fn remove_history(&self) -> Option<Position> {
        self.app.bus().remove_history(&self.to_all())
    }

    /// Sends a message or a batch to one client, and returns the number of subscribers that got it:
    /// 0 if the client has left.
    pub fn send_to(&self, client: &Client, messages: impl Into<Batch>) -> usize {
        let delivery = Delivery::After(self.said_to_all());
        let batch = messages.into().delivered(delivery);
        self.app.bus().publish(client.topic(), batch)
    }

    /// Closes the session of a client; see [`Context::close`](crate::Context::close).
    pub fn close(&self, client: &Client, code: u16, reason: &str) -> bool {
        let frame = CloseFrame::new(CloseCode::new(code).or_normal(), reason);
        let delivery = Delivery::Close(self.said_to_all(), Arc::new(frame));
        // An entry of a topic has a message, which is not sent.
        let batch = Batch::from("").delivered(delivery);
        self.app.bus().publish(client.topic(), batch) > 0
    }

    fn to_all(&self) -> Topic {
        Topic::from_service_to_ws(&self.room)
    }

    /// The offset behind what was published to all so far.
    fn said_to_all(&self) -> u64 {
        self.app.bus().publisher(&self.to_all()).tail()
    }
}
