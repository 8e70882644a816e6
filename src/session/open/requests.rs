//! How an open session answers requests of a client that speaks JSON.

use std::task::Context;

use super::Open;
use crate::bus::{Reading, Subscription};
use crate::limits::Readers;
use crate::rt::{Instant, Runtime};
use crate::session::answer;
use crate::session::cause::Cause;
use crate::session::replies::Replies;
use crate::session::request::{Asks, Refused, Request};
use crate::wire::{Frame, Frames};

impl<R: Runtime> Open<R> {
    /// Answers a request; the reply waits for the messages that it speaks of.
    pub(super) fn answer(&mut self, cx: &mut Context<'_>, request: Request, now: Instant) {
        let Request { id, asks } = request;
        match asks {
            Asks::History(reading) => {
                let reply = self.read_history(id, reading);
                self.reply(cx, reply.unwrap_or_else(|error| answer::refused(id, error)));
            }
            Asks::Publish { text, is_live } => self.publish(cx, now, Publish { id, text, is_live }),
        }
    }

    fn read_history(&self, id: u64, reading: Option<Reading>) -> Result<Frame, Refused> {
        let admission = self.admission();
        let policies = admission.app().policies();
        let kind = policies.service(admission.room().kind());
        let policy = kind.and_then(|kind| kind.history);
        let read = policy.ok_or(Refused::NoHistory)?.read;
        if read == Readers::Nobody {
            return Err(Refused::Forbidden);
        }
        let reading = reading.ok_or(Refused::Bad("`since` is no position"))?;
        let page = admission.app().history(admission.room(), &reading)?;
        Ok(answer::history(id, &page, admission.egress.names_senders))
    }

    fn publish(&mut self, cx: &mut Context<'_>, now: Instant, publish: Publish) {
        let frames = Frames::from(Frame::text(publish.text));
        self.age.active(now);
        let metrics = self.admission().app().metrics();
        metrics.messages_in.add(1);
        metrics.bytes_in.add(frames.payload_bytes() as u64);
        if let Some((_fit, cause)) = self.admission().rules.refuse(&frames) {
            self.not_taken(1);
            return self.reply_to(cx, publish.id, |id| answer::refused(id, refusal(&cause)));
        }
        let mut batch = self.admission_mut().batch(frames);
        if let Some(relay) = self.admission().rules.relay {
            if publish.is_live {
                batch = batch.live();
            }
            let position = self.admission().pass_on(batch, relay);
            return self.reply_to(cx, publish.id, |id| answer::published(id, position));
        }
        if let Some(replies) = self.admission_mut().egress.encoder.replies() {
            replies.publishes(publish.id);
        }
        self.hand_over(cx, batch, now, now);
        if self.pending_inbound.is_none() {
            self.reply_handed_over(cx);
        }
    }

    /// Replies to a request to publish whose message the service has now.
    pub(super) fn reply_handed_over(&mut self, cx: &mut Context<'_>) {
        let replies = self.admission_mut().egress.encoder.replies();
        if let Some(id) = replies.and_then(Replies::handed_over) {
            self.reply(cx, answer::published(id, None));
        }
    }

    /// Replies to a request with a number.
    fn reply_to(&mut self, cx: &mut Context<'_>, id: u64, reply: impl FnOnce(u64) -> Frame) {
        if id > 0 {
            self.reply(cx, reply(id));
        }
    }

    fn reply(&mut self, cx: &mut Context<'_>, frame: Frame) {
        let egress = &mut self.admission_mut().egress;
        let after = egress.broadcast.own().map_or(0, Subscription::tail);
        if let Some(replies) = egress.encoder.replies() {
            replies.push(after, frame);
        }
        // The next poll sends the reply.
        cx.waker().wake_by_ref();
    }
}

/// A text to publish, and the number of the request; 0 for a request without a reply.
struct Publish {
    id: u64,
    text: String,
    is_live: bool,
}

/// The refusal of a message for which a plain message would end the session.
fn refusal(cause: &Cause) -> Refused {
    if *cause == Cause::NotAllowed {
        Refused::Forbidden
    } else {
        Refused::Bad("the message is not what this room takes")
    }
}
