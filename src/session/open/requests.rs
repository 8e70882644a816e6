//! How an open session answers requests of a client that speaks JSON.

use std::task::Context;

use super::Open;
use crate::bus::{self, ClientId, Delivery, Reading, RequestError};
use crate::limits::{Keep, Readers};
use crate::rt::{Instant, Runtime};
use crate::session::answer;
use crate::session::cause::Cause;
use crate::session::memberships::Served;
use crate::session::pending_inbound::PendingInbound;
use crate::session::replies::Replies;
use crate::session::request::{Ask, Asks, Fault, Request};
use crate::wire::{Frame, Frames};

/// The most payload bytes of a reply with messages of a history, but for a single message.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

impl<R: Runtime> Open<R> {
    /// Answers a request; the reply waits for the messages that it speaks of. Returns the cause to
    /// close a client that may not publish and has no number for the reply.
    pub(super) fn answer(
        &mut self,
        cx: &mut Context<'_>,
        request: Request,
        now: Instant,
    ) -> Option<Cause> {
        let Request { id, asks } = request;
        self.age.active(now);
        match (asks, id) {
            (Asks::Bad(fault), Some(id)) => {
                self.reply(cx, answer::refused(id, Fault::Bad(fault)));
                None
            }
            (Asks::History(reading), Some(id)) => {
                let reply = self.read_history(id, &reading);
                self.reply(cx, reply.unwrap_or_else(|error| answer::refused(id, error)));
                None
            }
            (Asks::Presence { after, limit }, Some(id)) => {
                let reply = self.read_presence(id, after, limit);
                self.reply(cx, reply.unwrap_or_else(|error| answer::refused(id, error)));
                None
            }
            (Asks::Answer(ask), Some(id)) => {
                self.ask(cx, now, id, ask);
                None
            }
            // Without a number there is only a text, see `Request::parse`.
            (Asks::Answer(_) | Asks::Bad(_) | Asks::History(_) | Asks::Presence { .. }, None) => {
                None
            }
            (Asks::Publish { text, is_live }, _) => {
                self.publish(cx, now, Publish { id, text, is_live })
            }
        }
    }

    fn read_history(&self, id: u64, reading: &Reading) -> Result<Frame, Fault> {
        let member = self.member();
        let policies = self.app().policies();
        let kind = policies.service(member.room().kind());
        let policy = kind.and_then(|kind| kind.history);
        let read = policy.ok_or(Fault::NoHistory)?.read;
        if read == Readers::Nobody {
            return Err(Fault::Forbidden);
        }
        let mut page = self.app().history(member.room(), reading)?;
        // A client goes on after the last message; one message comes in any case.
        let mut bytes = 0;
        let lens = page.messages.iter().map(|recorded| recorded.message.len());
        let fitting = lens.take_while(|len| {
            bytes += len;
            bytes <= REPLY_BYTES_MAX
        });
        let fitting = fitting.count().max(1);
        page.messages.truncate(fitting);
        Ok(answer::history(id, &page, member.egress.names_senders))
    }

    fn read_presence(&self, id: u64, after: Option<u64>, limit: usize) -> Result<Frame, Fault> {
        let member = self.member();
        let policies = self.app().policies();
        let kind = policies.service(member.room().kind());
        let kind = kind.ok_or(Fault::NoPresence)?;
        let is_kept = kind.presence.keep != Keep::Off;
        if is_kept && kind.presence.read == Readers::Nobody {
            return Err(Fault::Forbidden);
        }
        let limit = limit.min(policies.limits.presence.clients);
        let page = member.lease.presence(after.map(ClientId::new), limit);
        let page = page.ok_or(Fault::NoPresence)?;
        Ok(answer::presence(id, &page))
    }

    /// Puts a request to the service, among the messages of the client.
    fn ask(&mut self, cx: &mut Context<'_>, now: Instant, id: u64, ask: Ask) {
        let frames = Frames::from(Frame::text(ask.data));
        let metrics = self.app().metrics();
        metrics.messages_in.add(1);
        metrics.bytes_in.add(frames.payload_bytes() as u64);
        if let Err(error) = self.may_ask(ask.room.as_deref()) {
            self.member().not_taken(self.app(), 1);
            return match error {
                NotAsked::Forbidden => self.reply(cx, answer::refused(id, Fault::Forbidden)),
                NotAsked::For(error) => self.unanswered(cx, id, error),
            };
        }
        let (question, answer) = bus::question(&ask.method, None);
        let until = now + self.limits().request_timeout;
        if let Some(replies) = self.member_mut().egress.encoder.replies() {
            replies.ask(id, answer, until);
        }
        self.is_timed_anew = true;
        let batch = self.member_mut().batch(frames);
        let handed = PendingInbound {
            batch: batch.delivered(Delivery::Request(question)),
            since: now,
        };
        self.hand_over(cx, handed, now);
        // The next poll looks for the answer.
        cx.waker().wake_by_ref();
    }

    /// Whether the client may put a request to this room, by a channel if it names one.
    fn may_ask(&mut self, room: Option<&str>) -> Result<(), NotAsked> {
        let member = self.member();
        let most = self.limits().requests_per_client.get();
        let own = member.room().to_string();
        if room.is_some_and(|room| room != own) || member.rules.relay.is_some() {
            return Err(NotAsked::For(RequestError::NotServed));
        }
        if !member.rules.may_publish {
            return Err(NotAsked::Forbidden);
        }
        let replies = self.member_mut().egress.encoder.replies();
        if replies.is_some_and(|replies| replies.asked() >= most) {
            return Err(NotAsked::For(RequestError::TooMany(most)));
        }
        Ok(())
    }

    fn unanswered(&mut self, cx: &mut Context<'_>, id: u64, error: RequestError) {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        let egress = &mut memberships.oldest_mut().egress;
        let told = egress.told();
        if let Some(replies) = egress.encoder.replies() {
            replies.answer(id, &Err(error), told, connection.app.metrics());
        }
        cx.waker().wake_by_ref();
    }

    /// Replies to the requests that have waited long enough; returns whether there are any.
    pub(super) fn expire_requests(&mut self, now: Instant) -> bool {
        if self.answered_by().is_none_or(|due| due > now) {
            return false;
        }
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        for member in memberships.iter_mut() {
            let due = member.egress.encoder.answered_by();
            if due.is_none_or(|due| due > now) {
                continue;
            }
            let told = member.egress.told();
            if let Some(replies) = member.egress.encoder.replies() {
                replies.expire(now, told, connection.app.metrics());
            }
        }
        true
    }

    fn publish(&mut self, cx: &mut Context<'_>, now: Instant, publish: Publish) -> Option<Cause> {
        let frames = Frames::from(Frame::text(publish.text));
        let metrics = self.app().metrics();
        metrics.messages_in.add(1);
        metrics.bytes_in.add(frames.payload_bytes() as u64);
        if let Some((_fit, cause)) = self.member().rules.refuse(&frames) {
            self.member().not_taken(self.app(), 1);
            let Some(id) = publish.id else {
                return Some(cause);
            };
            self.reply(cx, answer::refused(id, refusal(&cause)));
            return None;
        }
        let mut batch = self.member_mut().batch(frames);
        if let Some(relay) = self.member().rules.relay {
            if publish.is_live {
                batch = batch.live();
            }
            let published = self.member().pass_on(self.app(), batch, relay);
            if published.has_ended {
                self.member().not_taken(self.app(), 1);
            }
            if let Some(id) = publish.id {
                let reply = match published.has_ended {
                    true => answer::refused(id, Fault::Ended),
                    false => answer::published(id, published.position),
                };
                self.reply(cx, reply);
            }
            return None;
        }
        if let Some(replies) = self.member_mut().egress.encoder.replies() {
            replies.publishes(publish.id);
        }
        self.hand_over(cx, PendingInbound { batch, since: now }, now);
        if self.member().pending_inbound.is_none() {
            self.reply_handed_over(cx);
        }
        None
    }

    /// Replies to a request to publish whose message the service has now.
    pub(super) fn reply_handed_over(&mut self, cx: &mut Context<'_>) {
        let replies = self.member_mut().egress.encoder.replies();
        if let Some(id) = replies.and_then(Replies::handed_over) {
            self.reply(cx, answer::published(id, None));
        }
    }

    fn reply(&mut self, cx: &mut Context<'_>, frame: Frame) {
        let egress = &mut self.member_mut().egress;
        let told = egress.told();
        if let Some(replies) = egress.encoder.replies() {
            replies.push(told, frame);
        }
        // The next poll sends the reply.
        cx.waker().wake_by_ref();
    }
}

/// The reason why a request is not put to the service.
enum NotAsked {
    Forbidden,
    For(RequestError),
}

/// A text to publish, and the number of the request, if it has one.
struct Publish {
    id: Option<u64>,
    text: String,
    is_live: bool,
}

/// The refusal of a message for which a plain message would end the session.
fn refusal(cause: &Cause) -> Fault {
    if *cause == Cause::NotAllowed {
        Fault::Forbidden
    } else {
        Fault::Bad("the message is not what this room takes")
    }
}
