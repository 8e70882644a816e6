//! More pings than anybody needs answered.

use super::{Target, Witness};
use crate::raw::{PING, PONG, Raw, frame};

#[tokio::test]
async fn a_flood_of_pings_is_closed_with_1008_and_takes_no_memory() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let before = target.resident();
    let flood: Vec<u8> = (0..200).flat_map(|_| frame(PING, &[7; 125])).collect();
    for _ in 0..20 {
        let mut raw = Raw::join_at(target.address(), "ping").await;
        raw.send(&flood).await;
        assert_eq!(raw.closed().await, (1008, "too many pings".to_owned()));
    }
    assert!(target.resident() < before + 16 * 1024);
    target
        .until("busline_sessions_closed_total{reason=\"ping_flood\"}", 20)
        .await;
    witness.saw_no_loss().await;
}

#[tokio::test]
async fn pings_of_a_decent_number_are_answered() {
    let target = Target::start().await;
    let mut raw = Raw::join_at(target.address(), "ping").await;
    for number in 0..100 {
        raw.send(&frame(PING, &[number])).await;
        assert_eq!(raw.frame().await, (PONG, vec![number]));
    }
}
