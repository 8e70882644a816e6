//! Connections: whoever asks is served, stays as long as it likes, and is told why it must go.

use super::history::{History, Life};
use super::{Breach, Checker, Scope};
use crate::trace::Ending;
use busline::limits::KeepalivePolicy;

/// Longer holds than this, in microseconds, may cost a handshake its deadline.
const HANDSHAKE: u64 = 10_000_000;

/// RFC 6455 7.4.1: the server goes away.
const GOING_AWAY: u16 = 1001;

/// A client whose link works is admitted, is not sent away before the drain, gets the code of its
/// close frame back, and is sent away with 1001 at the drain.
pub struct Connection;

impl Checker for Connection {
    fn name(&self) -> &'static str {
        "connection"
    }

    fn scope(&self) -> Scope {
        Scope::Calm
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        for (client, life) in &history.clients {
            let found = admitted(history, life)
                .and_then(|()| kept(history, life))
                .and_then(|()| answered(history, life))
                .and_then(|()| sent_away(history, life));
            found.map_err(|(t, text)| Breach::new(t, format!("client {client} {text}")))?;
        }
        Ok(())
    }
}

type Found = Result<(), (u64, String)>;

fn admitted(history: &History<'_>, life: &Life) -> Found {
    // There and back for the connection, and again for the request.
    let arrive = |t, _| history.arrival(life.zone, t);
    let by = (0..4).fold(life.connecting, arrive);
    let is_sure = by - life.connecting < HANDSHAKE
        && !history.is_cut(life, by)
        && !history.is_exhausted(life.connecting, by)
        && history.drained.is_none_or(|drained| by < drained);
    if is_sure && life.connected.is_none_or(|connected| connected > by) {
        return Err((by, "was not admitted".to_owned()));
    }
    Ok(())
}

/// Whether its link was cut before `to`, or held for longer than it has to answer a ping.
fn is_out_of_reach(history: &History<'_>, life: &Life, to: u64) -> bool {
    let pong = KeepalivePolicy::default().pong_timeout;
    let pong = u64::try_from(pong.as_micros()).unwrap_or(u64::MAX);
    history.is_cut(life, to)
        || history.is_held(life, to, pong.saturating_sub(4 * history.one_way()))
}

fn kept(history: &History<'_>, life: &Life) -> Found {
    let lost = match (life.closed, life.ended) {
        (Some((t, code)), _) => Some((t, format!("{code:?}"))),
        (None, Some((t, Ending::Broken | Ending::Closed))) => Some((t, "no close frame".into())),
        (None, Some((_, Ending::Aborted | Ending::GaveUp)) | None) => None,
    };
    let Some((t, how)) = lost else {
        return Ok(());
    };
    let is_due = life.leaving.is_some() || history.drained.is_some_and(|drained| t >= drained);
    if is_due || is_out_of_reach(history, life, t) {
        return Ok(());
    }
    Err((t, format!("was sent away with {how}")))
}

fn answered(history: &History<'_>, life: &Life) -> Found {
    let Some((leaving, code)) = life.leaving else {
        return Ok(());
    };
    let by = history.arrival(life.zone, history.arrival(life.zone, leaving));
    let is_sure =
        !is_out_of_reach(history, life, by) && history.drained.is_none_or(|drained| by < drained);
    match life.closed {
        Some((t, got)) if is_sure && got != Some(code) => Err((
            t,
            format!("closed with {code} and was answered with {got:?}"),
        )),
        None if is_sure => Err((by, format!("closed with {code} and was not answered"))),
        Some(_) | None => Ok(()),
    }
}

fn sent_away(history: &History<'_>, life: &Life) -> Found {
    let (Some(drained), Some(connected)) = (history.drained, life.connected) else {
        return Ok(());
    };
    let by = history.arrival(life.zone, drained);
    let is_there = connected <= drained
        && life.leaving.is_none()
        && !matches!(life.ended, Some((_, Ending::Aborted)))
        && !is_out_of_reach(history, life, by);
    let code = life.closed.and_then(|(_, code)| code);
    if is_there && code != Some(GOING_AWAY) {
        return Err((by, format!("was sent away with {code:?} at the drain")));
    }
    Ok(())
}
