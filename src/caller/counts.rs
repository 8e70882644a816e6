//! The counters of calls: commands by method and outcome, and requests that came to no command.

use super::Method;
use crate::metrics::Counter;

/// The end of a command, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was refused with an error.
    Error,
    /// The command was done.
    Ok,
}

impl Outcome {
    /// All outcomes, in the order of [`CallerCounts::commands`].
    pub const ALL: [Self; 2] = [Self::Error, Self::Ok];

    /// The outcome as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Ok => "ok",
        }
    }
}

/// The reason for which a request was turned away before any command, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The body is no JSON of the method, or has not come whole.
    BadBody,
    /// More commands in a batch than may be.
    BatchTooLong,
    /// More channels in a broadcast than may be.
    BroadcastTooLong,
    /// As many requests in flight as may be.
    Busy,
    /// The body is longer than may be.
    BodyTooLong,
    /// The request is no POST.
    NotPost,
    /// The request shows no key that is known.
    Unauthorized,
    /// There is no method of this name.
    UnknownMethod,
    /// More wrong keys from one address than are answered.
    WrongKeys,
}

impl Turned {
    /// All reasons, in the order of [`CallerCounts::turned`].
    pub const ALL: [Self; 9] = [
        Self::BadBody,
        Self::BatchTooLong,
        Self::BroadcastTooLong,
        Self::Busy,
        Self::BodyTooLong,
        Self::NotPost,
        Self::Unauthorized,
        Self::UnknownMethod,
        Self::WrongKeys,
    ];

    /// The reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadBody => "bad_body",
            Self::BatchTooLong => "batch_too_long",
            Self::BroadcastTooLong => "broadcast_too_long",
            Self::Busy => "busy",
            Self::BodyTooLong => "body_too_long",
            Self::NotPost => "not_post",
            Self::Unauthorized => "unauthorized",
            Self::UnknownMethod => "unknown_method",
            Self::WrongKeys => "wrong_keys",
        }
    }
}

const METHODS: usize = Method::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();
const REASONS: usize = Turned::ALL.len();

/// The totals of the calls of an application, and those that are served now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerCounts {
    /// The commands by method and outcome, those of batches included.
    pub commands: [[u64; OUTCOMES]; METHODS],
    /// The requests that were turned away, by reason.
    pub turned: [u64; REASONS],
    /// Publishes that were answered from memory, as their idempotency key was known.
    pub repeated: u64,
    /// Requests that are being served.
    pub in_flight: u64,
    /// Calls that wait for the answer of a service.
    pub rpcs: u64,
    /// Connections that are kept for the next call.
    pub connections: u64,
    /// Connections that were closed after a call, as many were kept as may be.
    pub unkept: u64,
    /// Idempotency keys that are remembered.
    pub remembered: u64,
}

impl CallerCounts {
    /// The commands of a method with this outcome.
    pub fn of(&self, method: Method, outcome: Outcome) -> u64 {
        self.commands[method as usize][outcome as usize]
    }

    /// The requests that were turned away for this reason.
    pub fn turned_for(&self, reason: Turned) -> u64 {
        self.turned[reason as usize]
    }
}

/// The counters, which only rise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commands: [[Counter; OUTCOMES]; METHODS],
    turned: [Counter; REASONS],
    pub(crate) repeated: Counter,
    unkept: Counter,
}

impl Counters {
    pub(crate) fn command(&self, method: Method, outcome: Outcome) {
        self.commands[method as usize][outcome as usize].add(1);
    }

    pub(crate) fn turned(&self, reason: Turned) {
        self.turned[reason as usize].add(1);
    }

    pub(super) fn unkept(&self) {
        self.unkept.add(1);
    }

    pub(super) fn counts(&self) -> CallerCounts {
        CallerCounts {
            commands: std::array::from_fn(|method| {
                std::array::from_fn(|outcome| self.commands[method][outcome].value())
            }),
            turned: std::array::from_fn(|reason| self.turned[reason].value()),
            repeated: self.repeated.value(),
            unkept: self.unkept.value(),
            ..CallerCounts::default()
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_each_reason_is_counted_in_its_own_place() {
        let counters = Counters::default();
        counters.command(Method::Publish, Outcome::Ok);
        counters.command(Method::Publish, Outcome::Ok);
        counters.command(Method::Info, Outcome::Error);
        counters.turned(Turned::Busy);
        let counts = counters.counts();
        assert_eq!(counts.of(Method::Publish, Outcome::Ok), 2);
        assert_eq!(counts.of(Method::Publish, Outcome::Error), 0);
        assert_eq!(counts.of(Method::Info, Outcome::Error), 1);
        assert_eq!(counts.turned.iter().sum::<u64>(), 1);
        assert_eq!(counts.turned_for(Turned::Busy), 1);
        for (index, reason) in Turned::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
