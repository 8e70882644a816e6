//! A server that is told to stop while everybody talks.

use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

use super::Target;
use crate::client::Client;
use crate::server::soon;

/// Reads numbered messages up to the close: nothing is missing in between.
async fn reads_on(mut client: Client) -> (u64, u16) {
    let mut last: Option<u64> = None;
    loop {
        match client.next().await {
            Message::Text(text) => {
                let number: u64 = text.parse().expect("a number");
                assert!(
                    last.is_none_or(|last| number == last + 1),
                    "{last:?}, then {number}"
                );
                last = Some(number);
            }
            Message::Close(frame) => {
                let frame = frame.expect("the server gives a reason");
                return (last.unwrap_or_default(), frame.code.into());
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Binary(_) | Message::Frame(_)) => {
                panic!("not sent by anybody: {other:?}")
            }
        }
    }
}

#[tokio::test]
async fn everybody_who_reads_gets_all_up_to_the_close_and_the_server_ends_well() {
    let target = Target::start().await;
    let connect = || async {
        let stream = soon(TcpStream::connect(target.address()))
            .await
            .expect("it listens");
        Client::on(stream, "ping").await.expect("it is let in")
    };
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(tokio::spawn(reads_on(connect().await)));
    }
    let mut publisher = connect().await;
    let publishing = tokio::spawn(async move {
        for number in 0_u64.. {
            publisher.send(number.to_string()).await;
            match publisher.next().await {
                Message::Text(text) => assert_eq!(text.as_str(), number.to_string()),
                Message::Close(_) => return number,
                Message::Binary(_) | Message::Frame(_) | Message::Ping(_) | Message::Pong(_) => {
                    panic!("not sent by anybody")
                }
            }
        }
        unreachable!("it is closed before it has no more numbers");
    });
    target.until("busline_messages_received_total", 200).await;
    let begin = Instant::now();
    target.process.signal("TERM").await;
    for ended in join_all(readers).await {
        let (last, code) = ended.expect("nothing was missing");
        assert_eq!(code, 1001);
        assert!(last >= 100, "{last}");
    }
    let published = soon(publishing).await.expect("every message came back");
    let (code, log) = target.process.end().await;
    assert_eq!(code, Some(0), "{log}");
    let took = begin.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "{took:?} after {published} messages"
    );
}
