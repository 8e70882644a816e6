//! Tells systemd where the server is in its life (`Type=notify-reload`), if it listens.

use std::cell::Cell;

use tracing::warn;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// It serves.
    Ready,
    /// It reads its settings again; [`Ready`](Self::Ready) follows, whatever comes of it.
    Reloading,
    /// It drains.
    Stopping,
}

/// What systemd was told so far: a server that stops says nothing else any more.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    is_stopping: Cell<bool>,
}

impl Notify {
    /// Tells it to whom `NOTIFY_SOCKET` names.
    pub(crate) fn tell(&self, state: State) {
        let Some(word) = self.word(state) else {
            return;
        };
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
            return;
        };
        if let Err(error) = send(&socket, word.as_bytes()) {
            warn!(%error, "cannot tell systemd");
        }
    }

    /// How this is told; after `STOPPING=1` systemd would take any of it for a server that serves.
    fn word(&self, state: State) -> Option<String> {
        match state {
            State::Stopping => {
                self.is_stopping.set(true);
                Some("STOPPING=1".to_owned())
            }
            State::Ready | State::Reloading if self.is_stopping.get() => None,
            State::Ready => Some("READY=1".to_owned()),
            State::Reloading => Some(format!("RELOADING=1\nMONOTONIC_USEC={}", microseconds())),
        }
    }
}

/// The system's monotonic clock, by which systemd orders what it is told.
#[cfg(target_os = "linux")]
fn microseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Nobody asks for it.
#[cfg(not(target_os = "linux"))]
fn microseconds() -> i64 {
    0
}

#[cfg(target_os = "linux")]
fn send(socket: &std::ffi::OsStr, word: &[u8]) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(word, &address)?;
    Ok(())
}

/// There is no systemd.
#[cfg(not(target_os = "linux"))]
fn send(_: &std::ffi::OsStr, _: &[u8]) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_after_that_it_stops() {
        let notify = Notify::default();
        for (state, start) in [
            (State::Ready, Some("READY=1")),
            (State::Reloading, Some("RELOADING=1\nMONOTONIC_USEC=")),
            (State::Ready, Some("READY=1")),
            (State::Stopping, Some("STOPPING=1")),
            (State::Reloading, None),
            (State::Ready, None),
        ] {
            let word = notify.word(state);
            let is_right = match (&word, start) {
                (Some(word), Some(start)) => word.starts_with(start),
                (word, start) => word.is_none() && start.is_none(),
            };
            assert!(is_right, "{state:?}: {word:?}");
        }
    }
}
