//! The bytes with which a client breaks a rule.

use crate::frames::masked;
use crate::wild::Offence;

/// Makes the bytes of an offence for a limit of the length of a message.
type Bytes = fn(usize) -> Vec<u8>;

const OFFENCES: [(Offence, Bytes); 8] = [
    (Offence::BadCloseCode, |_| {
        masked(0x88, &1005_u16.to_be_bytes())
    }),
    (Offence::BadUtf8, |_| masked(0x81, b"\xff")),
    (Offence::FragmentedPing, |_| masked(0x09, b"")),
    (Offence::LoneContinuation, |_| masked(0x80, b"of nothing")),
    (Offence::LongPing, |_| masked(0x89, &[7; 126])),
    (Offence::ReservedOpcode, |_| masked(0x83, b"")),
    (Offence::TooLong, |limit| masked(0x82, &vec![7; limit + 1])),
    (Offence::Unmasked, |_| vec![0x81, 1, b'x']),
];

/// Makes the bytes of this offence, if it is one of a connected client.
pub(super) fn bytes(offence: Offence, limit: usize) -> Option<Vec<u8>> {
    let found = OFFENCES.iter().find(|(of, _)| *of == offence);
    found.map(|(_, bytes)| bytes(limit))
}
