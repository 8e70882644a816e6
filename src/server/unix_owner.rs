//! The mode and the group of the file of a Unix socket.

use std::fmt;
use std::str::FromStr;

/// Permissions of a file, such as 0660.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMode(u32);

/// The text is not a [`UnixMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write octal digits from 0000 to 0777, such as 0660")]
pub struct UnixModeError;

impl UnixMode {
    /// The maximum: any user may read, write and execute.
    const MAX: u32 = 0o777;

    /// The permissions as a number.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for UnixMode {
    /// The owner and the group may connect.
    fn default() -> Self {
        Self(0o660)
    }
}

impl fmt::Display for UnixMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for UnixMode {
    type Err = UnixModeError;

    fn from_str(text: &str) -> Result<Self, UnixModeError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        // `from_str_radix` would accept a sign.
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = u32::from_str_radix(digits, 8).ok();
        let bits = bits.filter(|bits| are_digits && *bits <= Self::MAX);
        bits.map(Self).ok_or(UnixModeError)
    }
}

/// A group of users, by its name or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixGroup {
    /// A name, which is looked up when the socket is bound.
    Name(String),
    /// The number of the group in the operating system.
    Number(u32),
}

/// The text is not a [`UnixGroup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the name of a group, or its number below 4294967295")]
pub struct UnixGroupError;

impl fmt::Display for UnixGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl FromStr for UnixGroup {
    type Err = UnixGroupError;

    fn from_str(text: &str) -> Result<Self, UnixGroupError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'/';
        match text {
            "" => Err(UnixGroupError),
            // The largest number tells the operating system to leave the group as it is.
            number if is_number => match number.parse() {
                Ok(number) if number != u32::MAX => Ok(Self::Number(number)),
                Ok(_) | Err(_) => Err(UnixGroupError),
            },
            name if name.bytes().all(is_name) => Ok(Self::Name(name.to_owned())),
            _ => Err(UnixGroupError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_no_more_than_permissions() {
        for (text, bits) in [
            ("0660", Some(0o660)),
            ("660", Some(0o660)),
            ("0o600", Some(0o600)),
            ("0", Some(0)),
            ("0777", Some(0o777)),
            ("1000", None),
            ("0680", None),
            ("+660", None),
            ("-1", None),
            ("rw-", None),
            ("", None),
        ] {
            let mode = text.parse().ok().map(UnixMode::bits);
            assert_eq!(mode, bits, "{text}");
        }
        assert_eq!(UnixMode::default().to_string(), "0660");
    }

    #[test]
    fn a_group_is_a_name_or_a_number() {
        let name = |name: &str| Some(UnixGroup::Name(name.to_owned()));
        for (text, group) in [
            ("www-data", name("www-data")),
            ("0", Some(UnixGroup::Number(0))),
            ("4294967294", Some(UnixGroup::Number(u32::MAX - 1))),
            ("4294967295", None),
            ("99999999999", None),
            ("a b", None),
            ("a:b", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), group, "{text}");
            if let Some(group) = group {
                assert_eq!(group.to_string(), text);
            }
        }
    }
}
