//! `echo`: what a client sends comes back to it, in order, and to nobody else.

use super::history::{History, Life, Said};
use super::{Breach, Checker, Scope, shorten};

const SERVICE: &str = "echo";

/// RFC 6455 7.4.1: the server goes away.
const GOING_AWAY: u16 = 1001;

/// What a client has received is the beginning of what it has sent, as far as that is due; who is
/// closed has the answers to all that it had sent before it closed itself, or that had arrived when
/// the server was told to stop.
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
            heard_out(history, client, life)?;
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

/// A client that is closed has been answered, but for what was lost on the way.
fn heard_out(history: &History<'_>, client: u32, life: &Life) -> Result<(), Breach> {
    let Some((t, code)) = life.closed else {
        return Ok(());
    };
    // What a partition lost has never arrived.
    if history.is_cut(life, t) {
        return Ok(());
    }
    let drained = history.drained.filter(|drained| *drained <= t);
    let is_drained = drained.is_some() && code == Some(GOING_AWAY);
    let is_own = !is_drained && life.leaving.is_some_and(|(_, own)| Some(own) == code);
    let has_arrived = |said: &&Said| {
        let by = history.arrival(life.zone, said.t);
        is_own || (is_drained && drained.is_some_and(|drained| by < drained))
    };
    let (due, got) = (
        life.sent.iter().filter(has_arrived).count(),
        life.received.len(),
    );
    if got < due {
        let text = format!("client {client} was closed with {got} of {due} answers");
        return Err(Breach::new(t, text));
    }
    Ok(())
}
