//! The settings of operators' listeners, and the format of the log.

use std::str::FromStr;

use super::value::Described;
use crate::server::{Address, BindError};

/// The address of an operators' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Listens at this address.
    At(Address),
    /// Listens at this address, unless another program does.
    IfFree(Address),
    /// Does not listen.
    Off,
}

impl FromStr for Admin {
    type Err = BindError;

    /// Parses `off`, an address, or an address followed by `?`, which applies only if the address
    /// is free.
    fn from_str(text: &str) -> Result<Self, BindError> {
        match text.strip_suffix('?') {
            _ if text == "off" => Ok(Self::Off),
            Some(address) => address.parse().map(Self::IfFree),
            None => text.parse().map(Self::At),
        }
    }
}

impl Described for Admin {
    const PLACEHOLDER: &'static str = "HOST:PORT";
    const ALLOWED: &'static str = "HOST:PORT, HOST:PORT? for only if it is free, or off";
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// Text.
    #[default]
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Sources;

    #[test]
    fn operators_are_listened_for_on_loopback_only_unless_it_is_said() {
        let local: Address = "localhost:8081".parse().expect("an address");
        let config = Sources::file("", &[]).with_file("", "").expect("valid");
        assert_eq!(*config.admin(), Admin::IfFree(local.clone()));
        for (text, admin) in [
            ("localhost:8081", Some(Admin::At(local))),
            ("off", Some(Admin::Off)),
            ("off?", None),
            ("?", None),
            ("", None),
            ("8081", None),
        ] {
            assert_eq!(text.parse().ok(), admin, "{text}");
        }
    }
}
