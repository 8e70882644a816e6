//! The codes of close frames (RFC 6455 7.4).

use std::fmt;

/// A status code of RFC 6455 7.4 or of IANA's WebSocket close code registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint leaves: a server stops, a browser navigates away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a kind of data that this endpoint does not accept.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The close frame had no code; never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// The connection ended without a close frame; never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// The peer's data did not match its kind: a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a rule that is this endpoint's own.
    pub const POLICY: Self = Self(1008);
    /// The peer's message is longer than this endpoint accepts.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server restarts; the client may come back after a while.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The server is overloaded; the client may try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// The client may not do this: 4403, of the private range.
    pub const FORBIDDEN: Self = Self(4403);
    /// The client's credentials do not suffice, or no longer: 4401, of the private range.
    pub const UNAUTHORIZED: Self = Self(4401);
    /// 4400, of this server: the request has a fault.
    pub const BAD_REQUEST: Self = Self(4400);
    /// 4404, of this server: no service, no kind of rooms or no valid key has the client's path.
    pub const NOT_FOUND: Self = Self(4404);
    /// 4429, of this server: a limit of clients, rooms or sessions is reached.
    pub const TOO_MANY: Self = Self(4429);

    /// Makes a code of any number; see [`CloseCode::allowed_on_wire`].
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The code's number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// This code if a close frame may carry it, otherwise [`NORMAL`](Self::NORMAL).
    #[must_use]
    pub const fn or_normal(self) -> Self {
        if self.allowed_on_wire() {
            self
        } else {
            Self::NORMAL
        }
    }

    /// Whether a close frame may carry this code.
    ///
    /// The codes 1000 to 1003 and 1007 to 1014 are allowed (RFC 6455 7.4.1 and the registry), and
    /// 3000 to 4999, which are for libraries and applications (7.4.2). Other codes are reserved or
    /// local.
    pub const fn allowed_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
