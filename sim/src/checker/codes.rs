//! Codes: each close frame of the server has the code of a cause, and each cause is told.

use std::collections::BTreeMap;

use super::{Breach, Checker, History};
use crate::trace::Event;

/// The server writes no more close frames with a code than sessions ended for a cause with it.
pub struct Codes;

impl Checker for Codes {
    fn name(&self) -> &'static str {
        "codes"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let mut causes: BTreeMap<u16, u64> = BTreeMap::new();
        for entry in history.epoch() {
            if let Event::Log {
                message, fields, ..
            } = &entry.event
                && message == "session closed"
                && let Some(code) = fields.get("cause").and_then(|cause| code(cause))
            {
                *causes.entry(code).or_default() += 1;
            }
        }
        let mut frames: BTreeMap<u16, u64> = BTreeMap::new();
        for (number, conn) in history.conns() {
            // A session that has not ended, or that was dropped, is not in the log.
            let Some((t, Some(code))) = conn.closed().filter(|_| conn.dropped.is_some()) else {
                continue;
            };
            let count = frames.entry(code).or_default();
            *count += 1;
            let earned = causes.get(&code).copied().unwrap_or(0);
            if *count > earned {
                let text = format!(
                    "connection {number} was closed with {code}, as {count} were, and {earned} \
                     sessions had a cause for it"
                );
                return Err(Breach::new(t, text));
            }
        }
        Ok(())
    }
}

/// The code that a cause, as it is logged, is told with; `None` if it is told nothing.
fn code(cause: &str) -> Option<u16> {
    let name = cause.split(|c: char| !c.is_alphanumeric()).next()?;
    match name {
        "BadEnvelope" => Some(1007),
        "Drained" => Some(1001),
        "Failed" => Some(1011),
        "RateExceeded" => Some(1008),
        "SlowConsumer" | "Stalled" => Some(1013),
        "PeerClosed" => {
            let (_, after) = cause.split_once("CloseCode(")?;
            after.split(')').next()?.parse().ok()
        }
        "Protocol" => Some(protocol(cause)),
        _ => None,
    }
}

/// RFC 6455 7.4.1, by the words of the error.
fn protocol(cause: &str) -> u16 {
    let named = [
        ("InvalidUtf8", 1007),
        ("TooManyFragments", 1008),
        ("TooBig", 1009),
    ];
    let found = named.into_iter().find(|(error, _)| cause.contains(error));
    found.map_or(1002, |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_with_its_code() {
        assert_eq!(code("Drained"), Some(1001));
        assert_eq!(code("SlowConsumer(3)"), Some(1013));
        assert_eq!(code("Lost(UnexpectedEof)"), None);
        assert_eq!(code("PeerClosed(None)"), None);
        let own = "PeerClosed(Some(CloseFrame { code: CloseCode(3000), reason: \"\" }))";
        assert_eq!(code(own), Some(3000));
        assert_eq!(code("Protocol(InvalidUtf8)"), Some(1007));
        assert_eq!(code("Protocol(ControlTooLong)"), Some(1002));
    }
}
