//! Protocol: every byte that the server sends is legal.

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
        for (number, conn) in history.all_conns() {
            if let Some(rule) = &conn.said().broken {
                return Err(Breach::new(end, format!("connection {number}: {rule}")));
            }
        }
        Ok(())
    }
}
