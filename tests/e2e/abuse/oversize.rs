//! Messages that are too long, or never end.

use super::{Target, Witness};
use crate::raw::{Raw, frame};

/// The first frame of a text that goes on.
const TEXT_BEGINS: u8 = 0x01;
const CONTINUES: u8 = 0x00;

/// What the memory of the process may grow by, in KiB.
const GROWTH: u64 = 24 * 1024;

#[tokio::test]
async fn a_length_that_is_only_announced_takes_no_memory() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let before = target.resident();
    for length in [65_537_u64, 1 << 30, (1 << 63) - 1] {
        let mut raw = Raw::join_at(target.address(), "ping").await;
        let mut head = vec![0x82, 0xff];
        head.extend(length.to_be_bytes());
        head.extend([0; 4]);
        raw.send(&head).await;
        assert_eq!(raw.closed().await.0, 1009, "{length}");
    }
    assert!(target.resident() < before + GROWTH);
    witness.saw_no_loss().await;
}

#[tokio::test]
async fn a_message_of_endless_fragments_is_closed_with_1009_at_the_limit() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let before = target.resident();
    for _ in 0..20 {
        let mut raw = Raw::join_at(target.address(), "ping").await;
        let fragment = [b'x'; 1024];
        raw.send(&frame(TEXT_BEGINS, &fragment)).await;
        for _ in 1..64 {
            raw.send(&frame(CONTINUES, &fragment)).await;
        }
        // 64 KiB are allowed.
        raw.send(&frame(CONTINUES, b"x")).await;
        assert_eq!(raw.closed().await.0, 1009);
    }
    assert!(target.resident() < before + GROWTH);
    let closed = "busline_sessions_closed_total{reason=\"message_too_big\"}";
    target.until(closed, 20).await;
    witness.saw_no_loss().await;
}

#[tokio::test]
async fn fragments_without_a_byte_are_closed_with_1008() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let mut raw = Raw::join_at(target.address(), "ping").await;
    let mut flood = frame(TEXT_BEGINS, b"");
    for _ in 0..1024 {
        flood.extend(frame(CONTINUES, b""));
    }
    raw.send(&flood).await;
    assert_eq!(raw.closed().await.0, 1008);
    target
        .until(
            "busline_sessions_closed_total{reason=\"too_many_fragments\"}",
            1,
        )
        .await;
    witness.saw_no_loss().await;
}
