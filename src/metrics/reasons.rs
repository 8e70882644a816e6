//! The reasons and outcomes that are counted one by one.

/// The kind of a session's end, for counters; [`Cause`](crate::session::Cause) has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The session reached its largest age.
    Aged,
    /// The client sent a text that is not of the subprotocol it asked for.
    BadEnvelope,
    /// The service closed the session.
    Closed,
    /// The client sent a fresh token that is not valid.
    Denied,
    /// The session's task was dropped: the server stopped without waiting for it.
    Dropped,
    /// The application drains.
    Drained,
    /// The stream of the room has ended.
    Ended,
    /// The client's credentials expired.
    Expired,
    /// The service crashed for good.
    Failed,
    /// No message was sent in either direction for the time allowed.
    Idle,
    /// The connection broke.
    Lost,
    /// The client sent a message that is too long.
    MessageTooBig,
    /// A message took longer to arrive than it may.
    MessageTooSlow,
    /// The client published in a relay where clients may not.
    NotAllowed,
    /// The client sent a text that is not UTF-8.
    NotUtf8,
    /// The client closed the connection.
    PeerClosed,
    /// The client sent more pings than are answered.
    PingFlood,
    /// The client violated the protocol in another way.
    Protocol,
    /// The client sent more bytes or messages than it may.
    RateExceeded,
    /// All sessions together held too much, and this session held most.
    Shed,
    /// The client answered no ping.
    Silent,
    /// The client lost messages, and the policy is to close.
    SlowConsumer,
    /// The service took no message for the time allowed.
    Stalled,
    /// The client sent a message in too many empty fragments.
    TooManyFragments,
    /// The client sent a message that its relay does not pass on.
    Unfit,
    /// The client took no byte for the time allowed.
    Unwritable,
}

impl CloseReason {
    /// All reasons, in the order of
    /// [`SessionCounts::closed_by`](crate::SessionCounts::closed_by).
    pub const ALL: [Self; 26] = [
        Self::Aged,
        Self::BadEnvelope,
        Self::Closed,
        Self::Denied,
        Self::Dropped,
        Self::Drained,
        Self::Ended,
        Self::Expired,
        Self::Failed,
        Self::Idle,
        Self::Lost,
        Self::MessageTooBig,
        Self::MessageTooSlow,
        Self::NotAllowed,
        Self::NotUtf8,
        Self::PeerClosed,
        Self::PingFlood,
        Self::Protocol,
        Self::RateExceeded,
        Self::Shed,
        Self::Silent,
        Self::SlowConsumer,
        Self::Stalled,
        Self::TooManyFragments,
        Self::Unfit,
        Self::Unwritable,
    ];

    /// The reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aged => "aged",
            Self::BadEnvelope => "bad_envelope",
            Self::Closed => "closed",
            Self::Denied => "denied",
            Self::Dropped => "dropped",
            Self::Drained => "drained",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::Lost => "lost",
            Self::MessageTooBig => "message_too_big",
            Self::MessageTooSlow => "message_too_slow",
            Self::NotAllowed => "not_allowed",
            Self::NotUtf8 => "not_utf8",
            Self::PeerClosed => "peer_closed",
            Self::PingFlood => "ping_flood",
            Self::Protocol => "protocol",
            Self::RateExceeded => "rate_exceeded",
            Self::Shed => "shed",
            Self::Silent => "silent",
            Self::SlowConsumer => "slow_consumer",
            Self::Stalled => "stalled",
            Self::TooManyFragments => "too_many_fragments",
            Self::Unfit => "unfit",
            Self::Unwritable => "unwritable",
        }
    }
}

/// The kind of a refusal of a client, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The service or room has as many clients as it may.
    Clients,
    /// The application drains.
    Draining,
    /// The service crashed too often.
    Failed,
    /// The client may not join the service.
    Forbidden,
    /// The request named a host that is not the server's.
    Host,
    /// The client is in as many rooms over its connection as it may be in.
    Memberships,
    /// The request came from a page of a foreign host.
    Origin,
    /// All rooms are taken, and the client would make a further one.
    Rooms,
    /// All rooms that clients of this address may make are taken.
    RoomsPerAddress,
    /// All rooms that clients of this subject may make are taken.
    RoomsPerSubject,
    /// All sessions are taken.
    Sessions,
    /// All sessions of the client's address are taken.
    SessionsPerAddress,
    /// All sessions of the client's subject are taken.
    SessionsPerSubject,
    /// The bus has as many topics as it allows.
    Topics,
    /// The client sent no valid token.
    Unauthorized,
    /// No decision was possible whether the client may join.
    Undecided,
}

impl RefuseReason {
    /// All reasons, in the order of
    /// [`SessionCounts::refused_by`](crate::SessionCounts::refused_by).
    pub const ALL: [Self; 16] = [
        Self::Clients,
        Self::Draining,
        Self::Failed,
        Self::Forbidden,
        Self::Host,
        Self::Memberships,
        Self::Origin,
        Self::Rooms,
        Self::RoomsPerAddress,
        Self::RoomsPerSubject,
        Self::Sessions,
        Self::SessionsPerAddress,
        Self::SessionsPerSubject,
        Self::Topics,
        Self::Unauthorized,
        Self::Undecided,
    ];

    /// The reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Forbidden => "forbidden",
            Self::Host => "host",
            Self::Memberships => "memberships",
            Self::Origin => "origin",
            Self::Rooms => "rooms",
            Self::RoomsPerAddress => "rooms_per_address",
            Self::RoomsPerSubject => "rooms_per_subject",
            Self::Sessions => "sessions",
            Self::SessionsPerAddress => "sessions_per_address",
            Self::SessionsPerSubject => "sessions_per_subject",
            Self::Topics => "topics",
            Self::Unauthorized => "unauthorized",
            Self::Undecided => "undecided",
        }
    }
}

/// The end of a request to a service, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The service has answered.
    Answered,
    /// The service has dropped the request, or lost it unread.
    Dropped,
    /// The service has not answered in time.
    Late,
    /// No service was there that answers requests.
    Missing,
    /// The service has refused the request, or it was no request that a service could answer.
    Refused,
    /// The inbox of the service was full, or too many requests of the client waited.
    TooMany,
}

impl RequestOutcome {
    /// All outcomes, in the order of
    /// [`SessionCounts::requests_by`](crate::SessionCounts::requests_by).
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Dropped,
        Self::Late,
        Self::Missing,
        Self::Refused,
        Self::TooMany,
    ];

    /// The outcome as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Dropped => "dropped",
            Self::Late => "late",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::TooMany => "too_many",
        }
    }
}

/// The bound for which a connection that was not upgraded gave way to a newer one, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplaceReason {
    /// The bound of all connections.
    Handshakes,
    /// The bound of the connections of one address.
    HandshakesPerAddress,
}

impl DisplaceReason {
    /// All reasons, in the order of
    /// [`SessionCounts::displaced_by`](crate::SessionCounts::displaced_by).
    pub const ALL: [Self; 2] = [Self::Handshakes, Self::HandshakesPerAddress];

    /// The reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::HandshakesPerAddress => "handshakes_per_address",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_where_it_is_counted() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
        for (index, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
        for (index, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.name());
        }
        for (index, reason) in DisplaceReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }

    #[test]
    fn every_reason_has_a_name_of_its_own_that_can_be_a_label() {
        let closed = CloseReason::ALL.map(CloseReason::name).to_vec();
        let refused = RefuseReason::ALL.map(RefuseReason::name).to_vec();
        let displaced = DisplaceReason::ALL.map(DisplaceReason::name).to_vec();
        let requests = RequestOutcome::ALL.map(RequestOutcome::name).to_vec();
        for mut names in [closed, refused, displaced, requests] {
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            let is_label = |name: &str| {
                let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
                !name.is_empty() && name.bytes().all(is_allowed)
            };
            assert!(names.into_iter().all(is_label));
        }
    }
}
