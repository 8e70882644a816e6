//! The notices of joins and leaves for one client.

use std::task::{Context, Poll};

use super::Egress;
use super::pick::Batches;
use crate::bus::Batch;
use crate::session::outbox::Outbox;

impl Egress {
    /// Whether a notice of a join or a leave may be pending.
    #[inline]
    pub(super) fn has_notices(&self) -> bool {
        let notices = self.encoder.notices();
        notices.is_some_and(|notices| !notices.is_quiet())
    }

    /// Moves pending notices into the outbox, as long as that has room; parks the task otherwise.
    pub(super) fn gather_notices(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) {
        while (outbox.is_empty() || outbox.len() < self.most())
            && let Some((missed, batches)) = self.read_notices(cx, outbox.len())
        {
            if let Some(notice) = self.encoder.notices_lagged(missed) {
                outbox.push_notice(&notice);
            }
            for batch in batches {
                let frames = self.encoder.noticed(batch.frames());
                let frames = self.compression.compress(frames);
                outbox.push(&frames, batch.published_at());
            }
        }
    }

    /// Reads notices that fit into the outbox beside `filled` bytes, after the number of those that
    /// are lost; `None` once the task is parked.
    fn read_notices(&mut self, cx: &mut Context<'_>, filled: usize) -> Option<(u64, Batches)> {
        let room = self.most().saturating_sub(filled);
        let notices = self.encoder.notices_mut()?;
        if notices.is_quiet() {
            return None;
        }
        let first = notices.next_offset();
        let mut batches = Batches::new();
        let Poll::Ready(missed) = notices.poll_batches(cx, room, |batch| batches.push(batch))
        else {
            return None;
        };
        let (topic, reporter) = (notices.topic(), &self.tap_reporter);
        reporter.missed(topic, first, missed, "lagged");
        let messages = batches.iter().map(Batch::len).sum();
        reporter.queued(topic, first + missed, messages);
        Some((missed, batches))
    }
}
