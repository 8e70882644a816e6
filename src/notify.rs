//! Tells systemd where the server is in its life (`Type=notify-reload`), if it listens.

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

/// Tells it to whom `NOTIFY_SOCKET` names.
pub(crate) fn notify(state: State) {
    let word = match state {
        State::Ready => "READY=1".to_owned(),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", microseconds()),
        State::Stopping => "STOPPING=1".to_owned(),
    };
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, word.as_bytes()) {
        warn!(%error, "cannot tell systemd");
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
