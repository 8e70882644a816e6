//! `echo`: what a client sends comes back to it, in order, and to nobody else.

use super::history::History;
use super::{Breach, Checker, Scope, shorten};

const SERVICE: &str = "echo";

/// What a client has received is the beginning of what it has sent, as far as that is due.
pub struct Echo;

impl Checker for Echo {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn scope(&self) -> Scope {
        Scope::Calm
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        for (client, life) in history.clients_of(SERVICE) {
            for (place, said) in life.received.iter().enumerate() {
                if life
                    .sent
                    .get(place)
                    .is_none_or(|sent| sent.text != said.text)
                {
                    let text = shorten(&said.text);
                    let text = format!("client {client} received `{text}` as number {place}");
                    return Err(Breach::new(said.t, text));
                }
            }
            for missing in life.sent.iter().skip(life.received.len()) {
                let by = history.arrival(life.zone, history.arrival(life.zone, missing.t));
                if by < history.until(life) && !history.is_cut(life, by) {
                    let text = shorten(&missing.text);
                    let text = format!("client {client} has not got `{text}` back");
                    return Err(Breach::new(by, text));
                }
            }
        }
        Ok(())
    }
}
