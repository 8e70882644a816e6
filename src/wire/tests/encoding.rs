//! The frames that the server sends, and the values they consist of.

use proptest::prelude::*;

use super::*;
use crate::wire::{
    CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, CloseCode, CloseFrame, ControlKind, ControlPayload,
    DataKind, Frame, OpCode, Payload, append_control,
};

#[test]
fn headers_are_minimal() {
    let cases: [(usize, &[u8]); 8] = [
        (0, &[0x82, 0]),
        (1, &[0x82, 1]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (127, &[0x82, 126, 0, 127]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (65_537, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1]),
    ];
    for (len, header) in cases {
        let payload = vec![7; len];
        let frame = Frame::binary(&payload);
        assert_eq!(frame.as_bytes(), &[header, &payload].concat(), "{len}");
        assert_eq!((frame.len(), frame.is_empty()), (len, len == 0));
    }
}

#[test]
fn a_frame_and_its_payload_share_one_allocation() {
    for len in [1, 125, 126, 65_536] {
        let frame = Frame::text("x".repeat(len)).clone();
        let end = |bytes: &[u8]| bytes.as_ptr_range().end;
        assert_eq!(end(frame.as_bytes()), end(frame.payload_bytes()), "{len}");
    }
}

#[test]
fn a_decoded_frame_equals_an_encoded_one() {
    let bytes = client_frame(TEXT, "gr\u{fc}n".as_bytes(), KEY);
    let outcome = decode_whole(100, &bytes);
    assert_eq!(outcome.events, [message(Frame::text("gr\u{fc}n"))]);
    assert_ne!(outcome.events, [message(Frame::binary("gr\u{fc}n"))]);
    let Event::Messages(frames) = &outcome.events[0] else {
        panic!("{outcome:?}");
    };
    let frame = frames.iter().next().expect("one at least");
    assert_eq!(frame.payload(), Payload::Text("gr\u{fc}n"));
    assert_eq!(frame.kind(), DataKind::Text);
    assert_eq!(format!("{frame:?}"), "Frame { kind: Text, len: 5 }");
}

#[test]
fn opcodes_survive_their_bits() {
    let known: Vec<_> = (0..16).filter_map(OpCode::from_bits).collect();
    assert_eq!(known.len(), 6);
    for code in known {
        assert_eq!(OpCode::from_bits(code.bits()), Some(code));
    }
}

#[test]
fn control_frames_are_short_and_final() {
    let mut out = vec![0];
    let payload = ControlPayload::try_from(&b"hi"[..]).expect("two bytes");
    append_control(&mut out, ControlKind::Ping, &payload);
    append_control(&mut out, ControlKind::Pong, &ControlPayload::EMPTY);
    let close = CloseFrame::new(CloseCode::NORMAL, "ok").encode();
    append_control(&mut out, ControlKind::Close, &close);
    assert_eq!(out, b"\x00\x89\x02hi\x8A\x00\x88\x04\x03\xE8ok");
}

#[test]
fn control_payloads_end_at_125_bytes() {
    for len in 0..CONTROL_BYTES_MAX + 3 {
        let bytes = vec![b'x'; len];
        let payload = ControlPayload::try_from(&bytes[..]);
        if len <= CONTROL_BYTES_MAX {
            assert_eq!(payload.expect("short enough").as_slice(), bytes);
        } else {
            assert_eq!(payload, Err(WireError::ControlTooLong));
        }
    }
}

#[test]
fn wire_codes_are_the_registered_ones() {
    let allowed: Vec<u16> = (0..=u16::MAX)
        .filter(|code| CloseCode::new(*code).allowed_on_wire())
        .collect();
    let expected = (1000..=1003).chain(1007..=1014).chain(3000..=4999);
    assert_eq!(allowed, expected.collect::<Vec<_>>());
}

#[test]
fn a_code_not_to_be_sent_leaves_an_empty_close() {
    for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::new(0)] {
        assert_eq!(CloseFrame::new(code, "why").encode(), ControlPayload::EMPTY);
    }
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn closes_survive_the_wire(code in 3000_u16..5000, reason in any::<String>()) {
        let frame = CloseFrame::new(CloseCode::new(code), &reason);
        prop_assert!(reason.starts_with(frame.reason()));
        let cut = reason.len() - frame.reason().len();
        prop_assert!(cut == 0 || frame.reason().len() + 3 >= CLOSE_REASON_BYTES_MAX);
        let mut bytes = Vec::new();
        append_control(&mut bytes, ControlKind::Close, &frame.encode());
        let outcome = decode_whole(0, &client_frame(CLOSE, &bytes[2..], KEY));
        prop_assert_eq!(outcome.events, [Event::Close(Some(frame))]);
    }
}
