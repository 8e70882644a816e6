//! permessage-deflate on real sockets: what is agreed on, and who gets what.

use flate2::{Decompress, FlushDecompress};

use crate::raw::{BINARY, PING, PONG, Raw, TEXT, frame, wish};
use crate::server::Server;

const RSV1: u8 = 0x40;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The same wish with an offer.
fn offering(path: &str) -> String {
    wish(path).replace("Sec-WebSocket-Key", &format!("{OFFER}Sec-WebSocket-Key"))
}

async fn join(server: &Server, service: &str) -> Raw {
    let mut raw = Raw::connect(server).await;
    raw.send(offering(&format!("/ws/{service}")).as_bytes())
        .await;
    let head = raw.head().await.to_ascii_lowercase();
    let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover\r\n";
    assert!(head.contains(agreed), "{head}");
    raw
}

fn inflate(mut payload: Vec<u8>) -> String {
    payload.extend([0, 0, 0xff, 0xff]);
    let mut text = Vec::with_capacity(100_000);
    Decompress::new(false)
        .decompress_vec(&payload, &mut text, FlushDecompress::Sync)
        .expect("it is compressed");
    String::from_utf8(text).expect("it is text")
}

#[tokio::test]
async fn a_long_text_reaches_each_client_as_it_can_read_it() {
    let server = Server::standard().await;
    let (mut one, mut other) = (join(&server, "ping").await, join(&server, "ping").await);
    let mut plain = Raw::join(&server, "ping").await;
    let text = "the same again ".repeat(50);
    plain.send(&frame(TEXT, text.as_bytes())).await;
    let (first, compressed) = one.frame().await;
    assert_eq!(first, TEXT | RSV1);
    assert!(compressed.len() < 100, "{}", compressed.len());
    assert_eq!(other.frame().await, (first, compressed.clone()));
    assert_eq!(inflate(compressed.clone()), text);
    assert_eq!(plain.frame().await, (TEXT, text.clone().into_bytes()));
    // What one has compressed reaches the others restored.
    one.send(&frame(TEXT | RSV1, &compressed)).await;
    assert_eq!(plain.frame().await, (TEXT, text.into_bytes()));
    // A short one is not worth it.
    other.send(&frame(BINARY, b"short")).await;
    assert_eq!(plain.frame().await, (BINARY, b"short".to_vec()));
    one.frame().await;
    assert_eq!(one.frame().await, (BINARY, b"short".to_vec()));
}

#[tokio::test]
async fn nothing_is_agreed_on_where_it_is_turned_off() {
    let server = Server::start(|app| {
        let limits = busline::Limits {
            compress_bytes_min: None,
            ..busline::Limits::default()
        };
        app.limits(limits).service("echo", busline::service::echo)
    })
    .await;
    let mut raw = Raw::connect(&server).await;
    raw.send(offering("/ws/echo").as_bytes()).await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(!head.contains("extensions"), "{head}");
    raw.send(&frame(TEXT | RSV1, &[0])).await;
    assert_eq!(raw.closed().await.0, 1002);
}

#[tokio::test]
async fn pings_that_come_together_are_answered_one_by_one() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    let pings: Vec<u8> = (0..10).flat_map(|number| frame(PING, &[number])).collect();
    raw.send(&pings).await;
    for number in 0..10 {
        assert_eq!(raw.frame().await, (PONG, vec![number]));
    }
}
