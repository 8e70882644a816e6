//! Codes: each close frame of the server has the code of a cause, and each cause is told; a refusal
//! by name is closed with its own code.

use std::collections::BTreeMap;

use super::{Breach, Checker, History};
use crate::speech::status;
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
                && let Some(code) = fields.get("code").and_then(|code| code.parse().ok())
            {
                *causes.entry(code).or_default() += 1;
            }
        }
        let mut frames: BTreeMap<u16, u64> = BTreeMap::new();
        for (number, conn) in history.conns() {
            if let (Some(named), Some((t, code))) = (conn.refused_by_name(), conn.close_frame())
                && code.and_then(|code| status(code.into())) != Some(named)
            {
                let text = format!("connection {number} was refused for {named}, with {code:?}");
                return Err(Breach::new(t, text));
            }
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
