//! Bytes that the protocol forbids: invalid UTF-8, reserved bits and opcodes, frames without a
//! mask.

use super::{Target, Witness};
use crate::raw::{Raw, TEXT, frame};

async fn closes_with(target: &Target, code: u16, bytes: &[u8]) {
    let mut raw = Raw::join_at(target.address(), "ping").await;
    raw.send(bytes).await;
    assert_eq!(raw.closed().await.0, code, "{bytes:x?}");
}

#[tokio::test]
async fn invalid_utf8_is_closed_with_1007_wherever_it_is_cut() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let invalid: [&[u8]; 5] = [
        b"\xff",
        b"a\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"truncated \xe2\x82",
    ];
    for payload in invalid {
        closes_with(&target, 1007, &frame(TEXT, payload)).await;
        for cut in 0..=payload.len() {
            let mut bytes = frame(0x01, &payload[..cut]);
            bytes.extend(frame(0x80, &payload[cut..]));
            closes_with(&target, 1007, &bytes).await;
        }
    }
    witness.saw_no_loss().await;
}

#[tokio::test]
async fn reserved_bits_and_opcodes_and_unmasked_frames_are_closed_with_1002() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    for reserved in 1..8 {
        closes_with(&target, 1002, &frame(TEXT | reserved << 4, b"x")).await;
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        closes_with(&target, 1002, &frame(0x80 | opcode, b"x")).await;
    }
    closes_with(&target, 1002, &[TEXT, 1, b'x']).await;
    // A ping of 126 bytes, one in fragments, and a continuation of nothing.
    closes_with(&target, 1002, &frame(0x89, &[0; 126])).await;
    closes_with(&target, 1002, &frame(0x09, b"x")).await;
    closes_with(&target, 1002, &frame(0x80, b"x")).await;
    witness.saw_no_loss().await;
    let protocol = "busline_sessions_closed_total{reason=\"protocol\"}";
    target.until(protocol, 21).await;
}
