//! Why a session ended, and what its peer is told.

use std::io;

use crate::wire::{CloseCode, CloseFrame, WireError};

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The application stops: 1001.
    Drained,
    /// What the client had shown ran out, and it showed nothing new: 4401.
    Expired,
    /// The service crashed for good: 1011.
    Failed,
    /// The connection broke, or ended without a close handshake.
    Lost(io::ErrorKind),
    /// The peer closed; its frame is sent back.
    PeerClosed(Option<CloseFrame>),
    /// The peer broke the protocol or a limit: 1002, 1007, 1008 or 1009.
    Protocol(WireError),
    /// The peer answered no ping.
    Silent,
    /// The peer lost this many messages where the policy is to close: 1013.
    SlowConsumer(u64),
    /// The service took no message for the time allowed: 1013.
    Stalled,
    /// The peer took no byte for the time allowed.
    Unwritable,
}

/// How to end a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Say nothing: nobody listens.
    Drop,
    /// Send what is due, then this, and wait for the peer's.
    Finish(CloseFrame),
    /// Send this, with nothing before it that is not yet being sent, and wait for nothing.
    Now(Option<CloseFrame>),
}

impl Cause {
    pub(super) fn farewell(&self) -> Farewell {
        let finish = |code, reason: &'static str| Farewell::Finish(CloseFrame::new(code, reason));
        match self {
            Self::Drained => finish(CloseCode::GOING_AWAY, "the server is going away"),
            Self::Expired => finish(CloseCode::UNAUTHORIZED, "the token has expired"),
            Self::Failed => finish(CloseCode::INTERNAL_ERROR, "the service failed"),
            Self::Lost(_) | Self::Silent | Self::Unwritable => Farewell::Drop,
            Self::PeerClosed(frame) => Farewell::Now(frame.clone()),
            Self::Protocol(error) => {
                let frame = CloseFrame::new(error.close_code(), error.to_string());
                Farewell::Now(Some(frame))
            }
            Self::SlowConsumer(lost) => {
                let reason = format!("slow consumer: {lost} messages lost");
                Farewell::Now(Some(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason)))
            }
            Self::Stalled => finish(CloseCode::TRY_AGAIN_LATER, "the service takes no messages"),
        }
    }
}
