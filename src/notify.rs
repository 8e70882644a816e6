//! Tells systemd where the server is in its life (`Type=notify`); nothing where nobody listens.

use tracing::warn;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// It serves.
    Ready,
    /// It drains.
    Stopping,
}

/// Tells it to whom `NOTIFY_SOCKET` names.
pub(crate) fn notify(state: State) {
    let word: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, word) {
        warn!(%error, "cannot tell systemd");
    }
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
