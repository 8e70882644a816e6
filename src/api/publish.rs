//! Publishing into one room and into several, once for each idempotency key.

use super::reply::{Published, Reply, Responses};
use super::request::{Broadcast, Message as Sent, Publish};
use super::{Answer, Caller, Fault, payload};
use crate::bus::{Batch, Maker, Position, Room, Topic};
use crate::caller::{Begun, Named, Turned};
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, Payload};
use crate::rt::Runtime;

impl<R: Runtime> Caller<'_, R> {
    /// Publishes a message into a room, and answers with its position.
    pub(super) fn publish(&self, publish: &Publish) -> Result<Answer, Fault> {
        self.publish_to(&publish.channel, &publish.message())
    }

    /// Publishes a message into several rooms, each with an answer of its own.
    pub(super) fn broadcast(&self, broadcast: &Broadcast) -> Result<Answer, Fault> {
        let most = self.app.limits().api.broadcast;
        if broadcast.channels.is_empty() {
            return Err(Fault::bad("`channels` is missing or empty"));
        }
        if broadcast.channels.len() > most {
            let counters = &self.app.callers().counters;
            counters.turned(Turned::BroadcastTooLong);
            return Err(Fault::limit("channels in a broadcast", most));
        }
        let message = broadcast.message();
        let channels = broadcast.channels.iter();
        let responses = channels.map(|channel| self.publish_to(channel, &message));
        let responses = responses.map(Reply::from).collect();
        Ok(Answer::Broadcast(Responses { responses }))
    }

    fn publish_to(&self, channel: &str, sent: &Sent<'_>) -> Result<Answer, Fault> {
        if sent.idempotency_key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Fault::bad("an idempotency key has at most 256 bytes"));
        }
        if channel.is_empty() || (sent.data.is_none() && sent.b64data.is_empty()) {
            return Err(Fault::bad("`channel` or `data` is missing"));
        }
        let room = self.room(channel)?;
        let message = payload::message(self.takes(&room), sent)?;
        let batch = Batch::from(message);
        let batch = if sent.skip_history {
            batch.live()
        } else {
            batch
        };
        let position = match sent.idempotency_key {
            "" => self.publish_now(&room, batch),
            key => self.publish_once(&room, key, batch)?,
        };
        Ok(Answer::Published(Published::from(position)))
    }

    /// The messages that a room takes.
    pub(super) fn takes(&self, room: &Room) -> Payload {
        let policies = self.app.policies();
        let kind = policies.service(room.kind());
        kind.map_or_else(Payload::default, |kind| kind.payload)
    }

    fn publish_now(&self, room: &Room, batch: Batch) -> Option<Position> {
        // The callers together make the histories that begin with their messages.
        let maker = Maker::default();
        let to_all = Topic::from_service_to_ws(room);
        let published = self.app.bus().publish_by(&to_all, batch, &maker);
        published.position
    }

    /// Publishes unless a message with this key was published in the room before. No lock is held
    /// while subscribers are woken: a second caller with the key meanwhile is sent away.
    fn publish_once(
        &self,
        room: &Room,
        key: &str,
        batch: Batch,
    ) -> Result<Option<Position>, Fault> {
        let callers = self.app.callers();
        let now = self.app.rt().now();
        let begun = callers.remembered.lock().begin(room, key, now);
        match begun {
            Begun::Known(position) => {
                callers.counters.repeated.add(1);
                Ok(position)
            }
            Begun::UnderWay => Err(Fault::TOO_MANY),
            Begun::First(named) => Ok(self.publish_first(named, room, batch)),
        }
    }

    fn publish_first(&self, named: Named, room: &Room, batch: Batch) -> Option<Position> {
        let publish = UnderWay {
            caller: self,
            named: Some(named),
        };
        let position = self.publish_now(room, batch);
        publish.finish(position);
        position
    }
}

/// A publish under an idempotency key, which comes to nothing if it panics.
struct UnderWay<'a, 'b, R: Runtime> {
    caller: &'a Caller<'b, R>,
    named: Option<Named>,
}

impl<R: Runtime> UnderWay<'_, '_, R> {
    fn finish(mut self, position: Option<Position>) {
        if let Some(named) = self.named.take() {
            let app = self.caller.app;
            let mut remembered = app.callers().remembered.lock();
            remembered.finish(&named, position, app.rt().now());
        }
    }
}

impl<R: Runtime> Drop for UnderWay<'_, '_, R> {
    fn drop(&mut self) {
        if let Some(named) = self.named.take() {
            let callers = self.caller.app.callers();
            callers.remembered.lock().abandon(&named);
        }
    }
}
