//! Bytes that went over a socket, for which a trace has their number and their hash.

use std::ops::{Deref, DerefMut};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Digest;

/// Bytes for checkers; what is written of them is how many they are, and their hash.
///
/// The hash is made when it is asked for: most runs are judged, and never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(Box<[u8]>);

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Bytes", 2)?;
        fields.serialize_field("bytes", &self.0.len())?;
        fields.serialize_field("hash", &Digest::of(&self.0))?;
        fields.end()
    }
}
