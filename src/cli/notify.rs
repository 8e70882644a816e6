//! Reports the state of the server to systemd (`Type=notify-reload`), if systemd asks for it.

use std::cell::Cell;

use tracing::warn;

/// A state of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// The server serves clients.
    Ready,
    /// The server reloads its settings; [`Ready`](Self::Ready) follows, also if the reload fails.
    Reloading,
    /// The server drains.
    Stopping,
}

/// The connection to systemd; after [`State::Stopping`], no further state is reported.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    is_stopping: Cell<bool>,
}

impl Notify {
    /// Sends the state to the socket in `NOTIFY_SOCKET`.
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

    /// The message for a state; `None` after `STOPPING=1`, because systemd would take a further
    /// message for a server that runs.
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

/// The system's monotonic clock, by which systemd orders messages.
#[cfg(target_os = "linux")]
fn microseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Zero: systems without systemd do not use the value.
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

/// Does nothing on systems without systemd.
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
