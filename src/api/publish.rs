//! Publishing into one room and into several, once for each idempotency key.

use serde_json::value::RawValue;

use super::reply::{Published, Reply, Responses};
use super::request::{Broadcast, End, Message as Sent, Publish};
use super::{Answer, Caller, Fault, payload};
use crate::bus::{Batch, END_BYTES_MAX, EndError, Maker, Position, Room, Topic};
use crate::caller::{Begun, Judged, Method, Turned, Version};
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, Payload, VERSION_EPOCH_BYTES_MAX};
use crate::planted::{self, Bug};
use crate::rt::Runtime;

/// The reason why a room takes no message.
const ENDED: &str = "the stream has ended";

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
        if sent.version_epoch.len() > VERSION_EPOCH_BYTES_MAX {
            return Err(Fault::bad("a `version_epoch` has at most 256 bytes"));
        }
        if channel.is_empty() || (sent.data.is_none() && sent.b64data.is_empty()) {
            return Err(Fault::bad("`channel` or `data` is missing"));
        }
        let room = self.room(channel)?;
        let message = payload::message(self.takes(&room), sent)?;
        let mut batch = Batch::from(message);
        if sent.skip_history && !planted::is(Bug::LiveKept) {
            batch = batch.live();
        }
        if let Some(tags) = &sent.tags {
            batch = batch.tagged(tags.clone());
        }
        let version = Version {
            number: sent.version,
            epoch: sent.version_epoch.into(),
        };
        let publish = || self.publish_newer(&room, batch, version);
        let position = match sent.idempotency_key {
            "" => publish()?,
            key => self.publish_once(&room, key, publish)?,
        };
        let position = position.map(|position| Position {
            offset: position.offset + u64::from(planted::is(Bug::PlaceOfNext)),
            ..position
        });
        Ok(Answer::Published(Published::from(position)))
    }

    /// The messages that a room takes.
    pub(super) fn takes(&self, room: &Room) -> Payload {
        let policies = self.app.policies();
        let kind = policies.service(room.kind());
        kind.map_or_else(Payload::default, |kind| kind.payload)
    }

    /// Ends the stream of a room, and answers with the position of the end.
    pub(super) fn end(&self, asked: &End) -> Result<Answer, Fault> {
        let room = self.room(&asked.channel)?;
        let data = asked.data.as_deref().map_or("null", RawValue::get);
        let to_all = Topic::from_service_to_ws(&room);
        let ended = self.app.bus().end(&to_all, data.into(), &Maker::default());
        let position = ended.map_err(|error| match error {
            EndError::Ended => Fault::not_available(ENDED),
            EndError::NotJson => Fault::bad("`data` is no JSON"),
            EndError::TooLarge { .. } => Fault::limit("bytes of data of an end", END_BYTES_MAX),
            EndError::Unrecorded => Fault::not_available("a stream without a history has no end"),
        })?;
        self.note(Method::End, "a stream", 1);
        Ok(Answer::Published(Published::from(Some(position))))
    }

    fn publish_now(&self, room: &Room, batch: Batch) -> Result<Option<Position>, Fault> {
        // The callers together make the histories that begin with their messages.
        let maker = Maker::default();
        let to_all = Topic::from_service_to_ws(room);
        let published = self.app.bus().publish_by(&to_all, batch, &maker);
        let refused = Fault::not_available(ENDED);
        (!published.has_ended)
            .then_some(published.position)
            .ok_or(refused)
    }

    /// Publishes unless the version is not newer than the last one of the room: then nothing is
    /// published, and the answer is the position that there is. No lock is held while subscribers
    /// are woken: a second caller with a version meanwhile is sent away.
    fn publish_newer(
        &self,
        room: &Room,
        batch: Batch,
        version: Version,
    ) -> Result<Option<Position>, Fault> {
        if version.number == 0 {
            return self.publish_now(room, batch);
        }
        let versions = &self.app.callers().versions;
        let judged = versions.lock().begin(room, &version);
        match judged {
            Judged::UnderWay => return Err(Fault::TOO_MANY),
            Judged::NotNewer => {
                let to_all = Topic::from_service_to_ws(room);
                return Ok(self.app.bus().position(&to_all));
            }
            Judged::Newer => {}
        }
        let undo = OnDrop(Some(|| versions.lock().abandon(room)));
        let position = self.publish_now(room, batch)?;
        undo.disarm();
        versions.lock().finish(room, version);
        Ok(position)
    }

    /// Publishes unless a message with this key was published in the room before. No lock is held
    /// while subscribers are woken: a second caller with the key meanwhile is sent away.
    fn publish_once(
        &self,
        room: &Room,
        key: &str,
        publish: impl FnOnce() -> Result<Option<Position>, Fault>,
    ) -> Result<Option<Position>, Fault> {
        let callers = self.app.callers();
        let now = self.app.rt().now();
        let begun = callers.remembered.lock().begin(room, key, now);
        let named = match begun {
            Begun::Known(position) => {
                callers.counters.repeated.add(1);
                return Ok(position);
            }
            Begun::UnderWay => return Err(Fault::TOO_MANY),
            Begun::First(named) => named,
        };
        let undo = OnDrop(Some(|| callers.remembered.lock().abandon(&named)));
        let position = publish()?;
        undo.disarm();
        let mut remembered = callers.remembered.lock();
        remembered.finish(&named, position, self.app.rt().now());
        Ok(position)
    }
}

/// Takes back what was begun, if a publish comes to nothing: it was refused, or has panicked.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}
