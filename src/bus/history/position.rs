//! Positions in the history of a room, as clients show them when they come back.

use std::fmt;
use std::str::FromStr;

/// The number of hexadecimal digits of an epoch.
const DIGITS: usize = 16;

/// The name of one history of a room: 64 random bits, written as 16 hexadecimal digits.
///
/// Offsets of two epochs have nothing to do with each other. The epoch of a room changes only when
/// the room's position is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// A position in the history of a room: the offset of the newest message that was received, or was
/// there. Its text is `<epoch>:<offset>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The history.
    pub epoch: Epoch,
    /// The offset of a message, counted from 1; 0 for the position before the first message.
    pub offset: u64,
}

/// The position from which a client wants to go on. Its text is that of a [`Position`], but the
/// part before the colon may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Since {
    /// The history; `None` matches any.
    pub epoch: Option<Epoch>,
    /// The offset of the newest message that the client has.
    pub offset: u64,
}

/// The reason why a text is no epoch or no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The epoch is not 16 hexadecimal digits.
    #[error("an epoch has 16 digits, each 0 to 9 or a to f")]
    Epoch,
    /// The offset is no number of 64 bits, or is not written in its shortest form.
    #[error("an offset is a number up to 18446744073709551615, without leading zeros")]
    Offset,
    /// The text has no colon.
    #[error("a position is an epoch, a colon and an offset")]
    Parts,
}

impl Epoch {
    /// Makes the epoch of these bits, which should be random.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the epoch.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl Since {
    /// Whether the epoch of a history is the wanted one.
    pub fn matches(&self, epoch: Epoch) -> bool {
        self.epoch.is_none_or(|own| own == epoch)
    }
}

impl From<Position> for Since {
    fn from(position: Position) -> Self {
        Self {
            epoch: Some(position.epoch),
            offset: position.offset,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(epoch) = self.epoch {
            write!(f, "{epoch}")?;
        }
        write!(f, ":{}", self.offset)
    }
}

impl FromStr for Epoch {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.as_bytes().iter().all(is_digit) {
            return Err(PositionError::Epoch);
        }
        let bits = u64::from_str_radix(text, 16);
        bits.map(Self).map_err(|_no_number| PositionError::Epoch)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let since: Since = text.parse()?;
        let epoch = since.epoch.ok_or(PositionError::Epoch)?;
        let offset = since.offset;
        Ok(Self { epoch, offset })
    }
}

impl FromStr for Since {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once(':').ok_or(PositionError::Parts)?;
        let epoch = match epoch {
            "" => None,
            epoch => Some(epoch.parse()?),
        };
        let number: u64 = offset.parse().map_err(|_no_number| PositionError::Offset)?;
        // `+7` and `07` are numbers, too: two texts of one position would differ.
        if number.to_string() != offset {
            return Err(PositionError::Offset);
        }
        let offset = number;
        Ok(Self { epoch, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_bits(0x00ab_cdef_0123_4567);

    #[test]
    fn a_position_comes_back_from_its_text() {
        for offset in [0, 1, 7, u64::MAX] {
            let epoch = EPOCH;
            let position = Position { epoch, offset };
            let text = format!("00abcdef01234567:{offset}");
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
            assert_eq!(text.parse(), Ok(Since::from(position)));
            let any = Since {
                epoch: None,
                offset,
            };
            assert_eq!(any.to_string(), format!(":{offset}"));
            assert_eq!(any.to_string().parse(), Ok(any));
            assert!(any.matches(EPOCH) && Since::from(position).matches(EPOCH));
            assert!(!Since::from(position).matches(Epoch::from_bits(1)));
        }
    }

    #[test]
    fn a_text_that_is_nearly_a_position_is_none() {
        for (text, error) in [
            ("", PositionError::Parts),
            ("00abcdef01234567", PositionError::Parts),
            ("00abcdef0123456:1", PositionError::Epoch),
            ("00abcdef012345678:1", PositionError::Epoch),
            ("00ABCDEF01234567:1", PositionError::Epoch),
            ("+0abcdef01234567:1", PositionError::Epoch),
            ("00abcdef01234567:", PositionError::Offset),
            ("00abcdef01234567:+1", PositionError::Offset),
            ("00abcdef01234567:01", PositionError::Offset),
            ("00abcdef01234567:-1", PositionError::Offset),
            ("00abcdef01234567:1:1", PositionError::Offset),
            (
                "00abcdef01234567:18446744073709551616",
                PositionError::Offset,
            ),
        ] {
            assert_eq!(text.parse::<Since>(), Err(error), "{text}");
            assert_eq!(text.parse::<Position>(), Err(error), "{text}");
        }
        assert_eq!(":1".parse::<Position>(), Err(PositionError::Epoch));
    }
}
