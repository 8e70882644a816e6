//! Connections that never finish, or never begin, their request.

use futures::future::join_all;
use tokio::time::{Duration, Instant};

use super::{Target, Witness};
use crate::raw::Raw;

#[tokio::test]
async fn slow_handshakes_are_closed_after_their_ten_seconds_and_hold_nobody_up() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let begin = Instant::now();
    let starts: [&[u8]; 4] = [
        b"",
        b"G",
        b"GET /ws/ping HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: ",
    ];
    let attackers = (0..100).map(|number| {
        let address = target.address();
        async move {
            let mut raw = Raw::connect_to(address).await;
            raw.send(starts[number % starts.len()]).await;
            raw.end().await
        }
    });
    join_all(attackers).await;
    assert!(
        begin.elapsed() >= Duration::from_millis(9_900),
        "not before"
    );
    witness.saw_no_loss().await;
    assert_eq!(target.metric("busline_sessions_opened_total").await, 1);
}
