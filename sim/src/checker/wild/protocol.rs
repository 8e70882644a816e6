//! Protocol: every byte that the server sends is legal.

use super::streams;
use crate::checker::{Breach, Checker, History};

/// On every connection the server sends one response and then legal frames of RFC 6455, and
/// nothing after its close frame.
pub struct Protocol;

impl Checker for Protocol {
    fn name(&self) -> &'static str {
        "protocol"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        for (conn, mut frames) in streams(history.entries) {
            while frames
                .next()
                .map_err(|rule| Breach::new(end, format!("connection {conn}: {rule}")))?
                .is_some()
            {}
        }
        Ok(())
    }
}
