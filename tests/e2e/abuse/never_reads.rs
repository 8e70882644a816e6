//! Readers that never read, while others publish to them as fast as they can.

use super::{Target, Witness};
use crate::client::Client;
use crate::raw::Raw;
use crate::server::soon;
use tokio::net::TcpStream;

#[tokio::test]
async fn readers_that_never_read_take_bounded_memory_and_slow_nobody() {
    const READERS: usize = 30;
    const MESSAGES: usize = 1_500;
    const BYTES: usize = 32 * 1024;
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(Raw::join_narrow_at(target.address(), "ping").await);
    }
    let stream = soon(TcpStream::connect(target.address()))
        .await
        .expect("it listens");
    let mut publisher = Client::on(stream, "ping").await.expect("it is let in");
    let payload = "x".repeat(BYTES);
    publisher.round_trip(&payload).await;
    let before = target.resident();
    for _ in 0..MESSAGES {
        publisher.round_trip(&payload).await;
    }
    // 48 MB to each of 30; each may hold one message and its own buffer, and all share one window.
    let grown = target.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    let lost = target
        .metric("busline_messages_lost_total{reason=\"lagged\"}")
        .await;
    assert!(
        lost > (READERS * MESSAGES / 2) as u64,
        "{lost} are told as lost"
    );
    witness.saw_no_loss().await;
    drop(readers);
}

#[tokio::test]
async fn one_who_asks_and_never_reads_the_answers_takes_bounded_memory() {
    let target = Target::start().await;
    let witness = Witness::of(target.address()).await;
    let before = target.resident();
    let asker = Raw::join_narrow_at(target.address(), "echo").await;
    let question = crate::raw::frame(crate::raw::TEXT, &[b'x'; 16 * 1024]);
    // Until the server reads no more: then the socket takes nothing.
    let stream = asker.into_stream();
    let mut sent = 0;
    loop {
        match stream.try_write(&question) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let messages = target.metric("busline_messages_received_total").await;
                assert!(sent < 256 << 20, "it takes everything");
                let mut again = 0;
                // The witness asks on; the asker is stuck once nothing of its own is read.
                for _ in 0..20 {
                    again += stream.try_write(&question).unwrap_or_default();
                    assert!(target.metric("busline_messages_received_total").await >= messages);
                }
                if again == 0 {
                    break;
                }
                sent += again;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let grown = target.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB after {sent} bytes");
    witness.saw_no_loss().await;
}
