//! Reads numbers and texts from bytes that may be damaged.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::damage::Damage;

/// The bytes that are not read yet.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damage::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damage::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn number32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The bytes behind their length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = usize::try_from(self.number()?).map_err(|_| Damage::Cut)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage::Content("text"))
    }

    pub(super) fn option(&mut self) -> Result<Option<&'a str>, Damage> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(Damage::Content("option")),
        }
    }

    pub(super) fn address(&mut self) -> Result<Option<IpAddr>, Damage> {
        match self.byte()? {
            0 => Ok(None),
            4 => Ok(Some(self.array::<4>()?.into())),
            6 => Ok(Some(self.array::<16>()?.into())),
            _ => Err(Damage::Content("address")),
        }
    }

    pub(super) fn time(&mut self) -> Result<SystemTime, Damage> {
        let (seconds, nanos) = (self.number()?, self.number32()?);
        let fault = Damage::Content("time");
        if nanos >= 1_000_000_000 {
            return Err(fault);
        }
        let since = Duration::new(seconds, nanos);
        SystemTime::UNIX_EPOCH.checked_add(since).ok_or(fault)
    }

    /// Checks that nothing is left.
    pub(super) fn end(self, damage: Damage) -> Result<(), Damage> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(damage)
        }
    }
}
