//! The faults of calls, by the numbers of Centrifugo's errors.

use std::borrow::Cow;

use serde::Serialize;

/// The reason why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(
    feature = "server",
    derive(schemars::JsonSchema),
    schemars(rename = "Error")
)]
pub struct Fault {
    /// The number.
    pub code: u16,
    /// The reason in words, for a developer.
    pub message: Cow<'static, str>,
}

impl Fault {
    /// Centrifugo has the number of an internal error for a bad pattern, which is the caller's.
    pub(super) const BAD_PATTERN: Self =
        Self::new(100, "internal server error: `pattern` is no pattern");
    pub(super) const STOPPED: Self =
        Self::new(100, "internal server error: the server is going away");
    pub(super) const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel");
    pub(super) const FORBIDDEN: Self = Self::new(103, "permission denied");
    pub(super) const TOO_MANY: Self =
        Self::new(111, "too many requests: this key or room is in use");
    pub(super) const RPCS: Self = Self::new(
        111,
        "too many requests: as many calls wait for services as may",
    );
    pub(super) const WRONG_EPOCH: Self = Self::new(112, "unrecoverable position");

    const fn new(code: u16, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
        }
    }

    /// There is no such method of a service.
    pub(super) fn unknown_method(why: &'static str) -> Self {
        Self::of(104, "method not found", why)
    }

    /// The command is longer than it may be.
    pub(super) fn limit(what: &str, most: usize) -> Self {
        let message = format!("limit exceeded: at most {most} {what}").into();
        Self { code: 106, message }
    }

    /// The command has a fault.
    pub(super) fn bad(why: &'static str) -> Self {
        Self::of(107, "bad request", why)
    }

    /// The room, or this server, has no such thing.
    pub(super) fn not_available(why: &'static str) -> Self {
        Self::of(108, "not available", why)
    }

    fn of(code: u16, name: &str, why: &str) -> Self {
        let message = format!("{name}: {why}").into();
        Self { code, message }
    }

    /// The status of HTTP that stands for the fault, for callers that want no other.
    pub fn status(&self) -> u16 {
        match self.code {
            100 if *self != Self::BAD_PATTERN => 500,
            102 | 104 => 404,
            103 => 403,
            111 => 429,
            112 => 416,
            _ => 400,
        }
    }
}
