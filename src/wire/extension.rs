//! permessage-deflate: the offers of a client and their agreement (RFC 7692 7.1).

use std::fmt;

/// The extension's token (RFC 7692 7).
const TOKEN: &str = "permessage-deflate";

/// The size of a compressor's window, as the power of two of its bytes: 9 to 15.
///
/// RFC 7692 also has 8, which no common compressor can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowBits(u8);

impl WindowBits {
    /// The smallest window: 512 bytes.
    pub const MIN: Self = Self(9);
    /// The largest window, which every client can read: 32 KiB.
    pub const MAX: Self = Self(15);
    /// The number of sizes.
    pub const COUNT: usize = 7;

    /// Makes a window size; `None` outside of 9 to 15 bits.
    pub fn new(bits: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&bits)
            .then_some(Self(bits))
    }

    /// The number of bits.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The index of the size, from 0.
    pub(super) fn index(self) -> usize {
        usize::from(self.0 - Self::MIN.0)
    }
}

/// permessage-deflate as agreed on with one client.
///
/// Neither side keeps its window from one message to the next. A message is therefore compressed
/// once for any number of clients, and an idle connection holds no compression state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The window that the client asked the server not to exceed.
    asked: Option<WindowBits>,
}

impl Deflate {
    /// Accepts the first offer that the server supports; `headers` are the values of the request's
    /// `Sec-WebSocket-Extensions`, in order (RFC 6455 9.1).
    ///
    /// An offer with a parameter that is unknown, has a bad value or comes twice is declined, as
    /// RFC 7692 7.1 demands, and so is an offer for a window of 256 bytes.
    pub fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut offers = headers.into_iter().flat_map(|header| header.split(','));
        offers.find_map(Self::accept)
    }

    /// The window of the server's compressor.
    pub fn window(self) -> WindowBits {
        self.asked.unwrap_or(WindowBits::MAX)
    }

    fn accept(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(TOKEN) {
            return None;
        }
        let mut seen = Vec::new();
        let mut deflate = Self { asked: None };
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(unquoted(value.trim()))),
                None => (part, None),
            };
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                (
                    "client_max_window_bits"
                    | "client_no_context_takeover"
                    | "server_no_context_takeover",
                    None,
                ) => {}
                // The client's own window may have any size: the server reads with the largest.
                ("client_max_window_bits", Some(value)) => drop(bits(value)?),
                ("server_max_window_bits", Some(value)) => {
                    deflate.asked = Some(WindowBits::new(bits(value)?)?);
                }
                _ => return None,
            }
        }
        Some(deflate)
    }
}

impl fmt::Display for Deflate {
    /// Writes the value of the response's `Sec-WebSocket-Extensions`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{TOKEN}; server_no_context_takeover; client_no_context_takeover"
        )?;
        match self.asked {
            Some(window) => write!(f, "; server_max_window_bits={}", window.get()),
            None => Ok(()),
        }
    }
}

/// Removes the optional quotes of a value (RFC 6455 9.1).
fn unquoted(value: &str) -> &str {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inside.unwrap_or(value)
}

/// Parses a number of bits: 8 to 15, without leading zeros (RFC 7692 7.1.2).
fn bits(value: &str) -> Option<u8> {
    match value {
        "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15" => value.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[&str]) -> Option<String> {
        Deflate::negotiate(headers.iter().copied()).map(|deflate| deflate.to_string())
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn accepts_what_browsers_offer() {
        assert_eq!(
            answer(&["permessage-deflate; client_max_window_bits"]),
            Some(PLAIN.to_owned())
        );
        assert_eq!(answer(&["permessage-deflate"]), Some(PLAIN.to_owned()));
    }

    #[test]
    fn takes_the_first_offer_that_can_be_served() {
        let of_9 = format!("{PLAIN}; server_max_window_bits=9");
        let offers = "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, \
                      permessage-deflate;server_max_window_bits = \"9\" ,permessage-deflate";
        assert_eq!(answer(&[offers]), Some(of_9));
        assert_eq!(
            answer(&["foo", "Permessage-Deflate"]),
            Some(PLAIN.to_owned())
        );
    }

    #[test]
    fn declines_what_is_not_in_rfc_7692() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate;",
        ] {
            assert_eq!(answer(&[offer]), None, "`{offer}`");
        }
    }
}
