//! An address to listen on, the options for its socket, and the reasons why it cannot be had.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::str::FromStr;

use super::listen_host;
use super::unix_owner::{UnixGroup, UnixMode};

/// An address in the configuration: `HOST:PORT`, or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp {
        /// A name or an IP address; an IPv6 address is in brackets.
        host: String,
        /// The port; 0 for any free port.
        port: u16,
    },
    /// A file.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let bad = || BindError::BadAddress {
            address: text.to_owned(),
        };
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let is_file = path.has_root() && path.file_name().is_some();
            // The operating system limits the length of a path.
            let can_be = is_file && std::os::unix::net::SocketAddr::from_pathname(&path).is_ok();
            return can_be.then_some(Self::Unix(path)).ok_or_else(bad);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        if !listen_host::can_be(host) {
            return Err(bad());
        }
        let host = host.to_owned();
        Ok(Self::Tcp { host, port })
    }
}

/// Options for sockets; [`bind_all`](super::bind_all) and [`bind_shared`](super::bind_shared) use
/// the default options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Permissions of the file of a Unix socket, whatever the umask. A client may connect if it may
    /// write. Default 0660.
    pub unix_mode: UnixMode,
    /// Group of the file of a Unix socket. Default `None`: the group that the operating system
    /// gives to the file, mostly the group of the server.
    pub unix_group: Option<UnixGroup>,
}

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text is not an address.
    #[error(
        "`{address}` is no address to listen on: write HOST:PORT, such as localhost:8080, or \
         unix:/PATH"
    )]
    BadAddress {
        /// The text given.
        address: String,
    },
    /// The file of a Unix socket could not be given to its group.
    #[error(
        "cannot listen on {address}: its file cannot be given to the group `{group}`: {reason}"
    )]
    Group {
        /// The address given.
        address: String,
        /// The group given.
        group: UnixGroup,
        /// The cause, and what to do.
        reason: String,
    },
    /// The operating system reported an error.
    #[error("cannot listen on {address}: {}", hint(address, source))]
    Io {
        /// The address given.
        address: String,
        /// The error.
        source: io::Error,
    },
    /// Another address of the same list includes this one.
    #[error(
        "cannot listen on {address}: {other}, which is listed as well, takes it in; leave one of \
         them out"
    )]
    Listed {
        /// The address given.
        address: String,
        /// The other address.
        other: SocketAddr,
    },
    /// The path of a Unix socket is occupied by a file that no server has left behind.
    #[error(
        "cannot listen on {address}: there is {found}, and busline does not remove it; move it \
         away, or choose another path"
    )]
    Occupied {
        /// The address given.
        address: String,
        /// The kind of file at the path.
        found: &'static str,
    },
}

impl BindError {
    pub(super) fn new(address: impl ToString, source: io::Error) -> Self {
        let address = address.to_string();
        Self::Io { address, source }
    }
}

fn hint(address: &str, error: &io::Error) -> String {
    let is_file = address.starts_with("unix:");
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse && is_file {
        "another program listens there; stop it, or choose another path".into()
    } else if kind == io::ErrorKind::AddrInUse {
        "another program listens there; stop it, or choose another port with --listen".into()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address".into()
    } else if kind == io::ErrorKind::NotFound && is_file {
        "there is no such directory; create it".into()
    } else if kind == io::ErrorKind::PermissionDenied && is_file {
        "not permitted; the directory must let this user create and remove files".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "not permitted; ports below 1024 need a privilege, choose another with --listen".into()
    } else {
        error.to_string()
    }
}
