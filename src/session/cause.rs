//! Why a session ended, and the close frame for its peer.

use std::sync::Arc;
use std::{fmt, io};

use super::envelope::BadEnvelope;
use crate::limits::{DrainCode, Payload};
use crate::metrics::CloseReason;
use crate::planted::{self, Bug};
use crate::wire::{CloseCode, CloseFrame, WireError};

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The session has reached its maximum age: 1001.
    Aged,
    /// The peer sent a text that is not of the subprotocol it asked for: 1007.
    BadEnvelope(BadEnvelope),
    /// The service closed the session, with this frame.
    Closed(Arc<CloseFrame>),
    /// The application stops: 1001, or 1012 if the policy says so.
    Drained,
    /// The stream of the room has ended: 1000.
    Ended,
    /// The client's credentials expired, and it showed no fresh ones: 4401.
    Expired,
    /// The client sent a fresh token that is not valid: 4401.
    Denied,
    /// The service failed for good: 1011.
    Failed,
    /// No message passed in either direction for the time allowed: 1001.
    Idle,
    /// The client sent a message in a relay where clients may not publish: 4403.
    NotAllowed,
    /// The client sent a message that is not what the relay passes on: 1007.
    Unfit(Payload),
    /// The connection broke, or ended without a close handshake.
    Lost(io::ErrorKind),
    /// A message of the peer took longer to arrive than allowed: 1008.
    MessageTooSlow,
    /// The peer closed; its frame is sent back.
    PeerClosed(Option<CloseFrame>),
    /// The peer sent more pings than are answered: 1008.
    PingFlood,
    /// The peer broke the protocol or a limit: 1002, 1007, 1008 or 1009.
    Protocol(WireError),
    /// The peer sent more than its rate, and the policy is to close: 1008.
    RateExceeded,
    /// All sessions together held too much for their clients, and this session the most: 1013.
    Shed,
    /// The peer answered no ping: 1011.
    Silent,
    /// The peer lost this many messages, and the policy is to close: 1013.
    SlowConsumer(u64),
    /// The service accepted no message for the time allowed: 1013.
    Stalled,
    /// The peer's socket accepted no byte for the time allowed.
    Unwritable,
}

/// How to end a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Finish the frame that is being sent, drop the other frames, send this close frame, and do
    /// not wait for the peer's.
    Cut(CloseFrame),
    /// Send no close frame: the connection is of no use any more.
    Drop,
    /// Send the pending messages, then this close frame, which answers the peer's.
    Echo(Option<CloseFrame>),
    /// Send the pending messages, then this close frame, and wait for the peer's.
    Finish(CloseFrame),
    /// Send the outbox, but no further messages, then this close frame, and do not wait for the
    /// peer's.
    Now(CloseFrame),
    /// Send this close frame if the socket accepts it at once, and do not wait for a peer that is
    /// probably gone.
    Try(CloseFrame),
}

impl Cause {
    pub(super) fn farewell(&self, drain: DrainCode) -> Farewell {
        let finish = |code, reason: &'static str| Farewell::Finish(CloseFrame::new(code, reason));
        let now = |code, reason: &'static str| Farewell::Now(CloseFrame::new(code, reason));
        match self {
            Self::Drained if planted::is(Bug::DrainDropsPublished) => {
                now(CloseCode::GOING_AWAY, "at once")
            }
            Self::PeerClosed(_) if planted::is(Bug::CloseNotEchoed) => Farewell::Drop,
            Self::SlowConsumer(_) if planted::is(Bug::SlowCodeWrong) => {
                now(CloseCode::POLICY, "too slow")
            }
            Self::Stalled if planted::is(Bug::StalledCodeWrong) => {
                finish(CloseCode::GOING_AWAY, "stalled")
            }
            Self::Aged => finish(CloseCode::GOING_AWAY, "the session is old: connect again"),
            Self::BadEnvelope(bad) => now(CloseCode::INVALID_PAYLOAD, bad.reason()),
            Self::Closed(frame) => Farewell::Now(CloseFrame::clone(frame)),
            Self::Denied => now(CloseCode::UNAUTHORIZED, "the token is not good"),
            Self::Drained => match drain {
                DrainCode::GoingAway => finish(CloseCode::GOING_AWAY, "the server is going away"),
                DrainCode::Restart => finish(CloseCode::SERVICE_RESTART, "the server restarts"),
            },
            Self::Ended => finish(CloseCode::NORMAL, "the stream has ended"),
            Self::Expired => finish(CloseCode::UNAUTHORIZED, "the token has expired"),
            Self::Failed => finish(CloseCode::INTERNAL_ERROR, "the service failed"),
            Self::Idle => finish(CloseCode::GOING_AWAY, "the session is idle"),
            Self::Lost(_) | Self::Unwritable => Farewell::Drop,
            Self::MessageTooSlow => now(CloseCode::POLICY, "the message took too long to arrive"),
            Self::NotAllowed => now(CloseCode::FORBIDDEN, "clients may not publish here"),
            Self::Unfit(payload) => {
                let reason = format!("this room takes only messages that are {}", payload.name());
                Farewell::Now(CloseFrame::new(CloseCode::INVALID_PAYLOAD, reason))
            }
            Self::PeerClosed(frame) => Farewell::Echo(frame.clone()),
            Self::PingFlood => now(CloseCode::POLICY, "too many pings"),
            Self::Protocol(error) => {
                Farewell::Now(CloseFrame::new(error.close_code(), error.to_string()))
            }
            Self::RateExceeded => now(CloseCode::POLICY, "more than you may send"),
            Self::Shed => {
                let reason = "the server holds too much for slow clients";
                Farewell::Cut(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason))
            }
            Self::Silent => {
                let frame = CloseFrame::new(CloseCode::INTERNAL_ERROR, "no answer to a ping");
                Farewell::Try(frame)
            }
            Self::SlowConsumer(lost) => {
                let reason = format!("slow consumer: {lost} messages lost");
                Farewell::Cut(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason))
            }
            Self::Stalled => finish(CloseCode::TRY_AGAIN_LATER, "the service takes no messages"),
        }
    }

    /// Whether the session waits for the service's answers to the client's earlier messages.
    pub(super) fn is_heard_out(&self) -> bool {
        match self {
            Self::PeerClosed(_) => !planted::is(Bug::CloseUnanswered),
            Self::Drained => true,
            Self::Aged
            | Self::BadEnvelope(_)
            | Self::Closed(_)
            | Self::Denied
            | Self::Ended
            | Self::Expired
            | Self::Failed
            | Self::Idle
            | Self::Lost(_)
            | Self::MessageTooSlow
            | Self::NotAllowed
            | Self::PingFlood
            | Self::Protocol(_)
            | Self::RateExceeded
            | Self::Shed
            | Self::Silent
            | Self::SlowConsumer(_)
            | Self::Stalled
            | Self::Unfit(_)
            | Self::Unwritable => false,
        }
    }

    /// The close code that the peer receives, or has sent; `None` if there is no close frame.
    pub fn code(&self, drain: DrainCode) -> Option<CloseCode> {
        match self.farewell(drain) {
            Farewell::Cut(frame)
            | Farewell::Echo(Some(frame))
            | Farewell::Finish(frame)
            | Farewell::Now(frame)
            | Farewell::Try(frame) => Some(frame.code()),
            Farewell::Drop | Farewell::Echo(None) => None,
        }
    }

    /// The reason by which the end of the session is counted.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Aged => CloseReason::Aged,
            Self::BadEnvelope(_) => CloseReason::BadEnvelope,
            Self::Closed(_) => CloseReason::Closed,
            Self::Drained => CloseReason::Drained,
            Self::Denied => CloseReason::Denied,
            Self::Ended => CloseReason::Ended,
            Self::Expired => CloseReason::Expired,
            Self::Failed => CloseReason::Failed,
            Self::Idle => CloseReason::Idle,
            Self::Lost(_) => CloseReason::Lost,
            Self::MessageTooSlow => CloseReason::MessageTooSlow,
            Self::NotAllowed => CloseReason::NotAllowed,
            Self::Unfit(_) => CloseReason::Unfit,
            Self::PeerClosed(_) => CloseReason::PeerClosed,
            Self::PingFlood => CloseReason::PingFlood,
            Self::Protocol(WireError::InvalidUtf8) => CloseReason::NotUtf8,
            Self::Protocol(WireError::InflatesTooBig { .. } | WireError::TooBig { .. }) => {
                CloseReason::MessageTooBig
            }
            Self::Protocol(WireError::TooManyFragments) => CloseReason::TooManyFragments,
            Self::Protocol(
                WireError::Unmasked
                | WireError::ReservedBits
                | WireError::ReservedOpcode(_)
                | WireError::FragmentedControl
                | WireError::ControlTooLong
                | WireError::NonMinimalLength
                | WireError::LengthTopBit
                | WireError::UnexpectedContinuation
                | WireError::ExpectedContinuation
                | WireError::CloseTooShort
                | WireError::BadCloseCode(_)
                | WireError::BadDeflate,
            ) => CloseReason::Protocol,
            Self::RateExceeded => CloseReason::RateExceeded,
            Self::Shed => CloseReason::Shed,
            Self::Silent => CloseReason::Silent,
            Self::SlowConsumer(_) => CloseReason::SlowConsumer,
            Self::Stalled => CloseReason::Stalled,
            Self::Unwritable => CloseReason::Unwritable,
        }
    }
}

/// The text for logs; contains nothing that the peer has sent.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().name())?;
        match self {
            Self::BadEnvelope(bad) => write!(f, " ({})", bad.reason()),
            Self::Lost(kind) => write!(f, " ({kind})"),
            Self::Protocol(error) => write!(f, " ({error})"),
            Self::SlowConsumer(lost) => write!(f, " ({lost} messages lost)"),
            Self::Closed(frame) => write!(f, " ({})", frame.code().get()),
            Self::Aged
            | Self::Drained
            | Self::Ended
            | Self::Expired
            | Self::Denied
            | Self::Failed
            | Self::Idle
            | Self::MessageTooSlow
            | Self::NotAllowed
            | Self::PeerClosed(_)
            | Self::PingFlood
            | Self::RateExceeded
            | Self::Shed
            | Self::Silent
            | Self::Stalled
            | Self::Unfit(_)
            | Self::Unwritable => Ok(()),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_code_and_its_words() {
        let own = CloseFrame::new(CloseCode::new(3000), "own words");
        let told = [
            (Cause::Aged, Some(1001), "aged"),
            (
                Cause::BadEnvelope(BadEnvelope::HalfPair),
                Some(1007),
                "bad_envelope (an escape is half of a surrogate pair: \
                 write both halves or \\ufffd)",
            ),
            (
                Cause::Closed(Arc::new(own.clone())),
                Some(3000),
                "closed (3000)",
            ),
            (Cause::MessageTooSlow, Some(1008), "message_too_slow"),
            (Cause::NotAllowed, Some(4403), "not_allowed"),
            (Cause::Unfit(Payload::Json), Some(1007), "unfit"),
            (Cause::Drained, Some(1001), "drained"),
            (Cause::Ended, Some(1000), "ended"),
            (Cause::Expired, Some(4401), "expired"),
            (Cause::Denied, Some(4401), "denied"),
            (Cause::Failed, Some(1011), "failed"),
            (Cause::Idle, Some(1001), "idle"),
            (Cause::PeerClosed(Some(own)), Some(3000), "peer_closed"),
            (Cause::PeerClosed(None), None, "peer_closed"),
            (Cause::PingFlood, Some(1008), "ping_flood"),
            (Cause::RateExceeded, Some(1008), "rate_exceeded"),
            (Cause::Shed, Some(1013), "shed"),
            (Cause::Silent, Some(1011), "silent"),
            (
                Cause::SlowConsumer(3),
                Some(1013),
                "slow_consumer (3 messages lost)",
            ),
            (Cause::Stalled, Some(1013), "stalled"),
            (Cause::Unwritable, None, "unwritable"),
            (
                Cause::Lost(io::ErrorKind::TimedOut),
                None,
                "lost (timed out)",
            ),
            (
                Cause::Protocol(WireError::InvalidUtf8),
                Some(1007),
                "not_utf8 (text is not utf-8)",
            ),
        ];
        for (cause, code, words) in told {
            let told = cause.code(DrainCode::GoingAway).map(CloseCode::get);
            assert_eq!((told, cause.to_string()), (code, words.to_owned()));
        }
        let restart = Cause::Drained.code(DrainCode::Restart);
        assert_eq!(restart.map(CloseCode::get), Some(1012));
    }
}
