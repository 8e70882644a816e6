//! The peer's pings that are not answered yet.

use crate::wire::{ControlKind, ControlPayload};

use super::outbox::Outbox;

/// Maximum number of pings that wait for an answer.
const PONGS_MAX: usize = 16;

/// Pings in the order of arrival. Beyond [`PONGS_MAX`] the newest ping replaces the one before it,
/// as RFC 6455 5.5.3 allows: the memory for a peer that pings and does not read is bounded.
///
/// Holds no memory while all pings are answered.
#[derive(Debug, Default)]
pub(super) struct Pongs(Option<Box<Owed>>);

/// The waiting pings, boxed because most clients never send any.
#[derive(Debug, Default)]
struct Owed(Vec<ControlPayload>);

impl Pongs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a ping of the peer.
    pub(super) fn owe(&mut self, ping: ControlPayload) {
        let Owed(owed) = &mut **self.0.get_or_insert_default();
        owed.truncate(PONGS_MAX - 1);
        owed.push(ping);
    }

    /// Answers all waiting pings.
    pub(super) fn pay(&mut self, outbox: &mut Outbox) {
        let Some(owed) = self.0.take() else {
            return;
        };
        for payload in owed.0 {
            outbox.push_control(ControlKind::Pong, &payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(number: u8) -> ControlPayload {
        ControlPayload::try_from(&[number][..]).expect("it is short")
    }

    #[test]
    fn as_many_pings_as_may_wait_are_answered_in_order_and_then_the_newest() {
        for pings in [1, 15, 16, 17, 100] {
            let (mut pongs, mut outbox) = (Pongs::default(), Outbox::default());
            (0..pings).for_each(|number| pongs.owe(payload(number)));
            let owed = pongs.0.as_ref().expect("some are owed");
            let kept = owed.0.iter().map(|payload| payload.as_slice()[0]);
            let mut expected: Vec<u8> = (0..pings).collect();
            expected.truncate(PONGS_MAX - 1);
            expected.extend((pings > 15).then_some(pings - 1));
            assert_eq!(kept.collect::<Vec<_>>(), expected, "{pings}");
            pongs.pay(&mut outbox);
            assert_eq!(outbox.len(), 3 * expected.len());
            assert!(pongs.is_empty(), "nothing is kept");
        }
    }
}
