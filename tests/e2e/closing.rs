//! How a session ends: close codes, the end of the stream, the lease.

use busline::Limits;
use busline::service::echo;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::raw::{BINARY, CLOSE, PING, PONG, Raw, TEXT, close, frame};
use crate::server::Server;

/// Sends these bytes to `echo` and returns the code of the close that answers them, once the stream
/// has ended in order and the lease is gone.
async fn code_for(server: &Server, bytes: &[u8]) -> u16 {
    let mut raw = Raw::join(server, "echo").await;
    raw.send(bytes).await;
    let (code, _) = raw.closed().await;
    assert_eq!(raw.end().await, b"", "nothing follows a close frame");
    server.until_left("echo").await;
    drop(raw);
    server
        .until("the session is gone", |server| {
            server.app().sessions_open() == 0
        })
        .await;
    code
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code_and_reason() {
    let server = Server::standard().await;
    for (code, reason) in [(1000, "done"), (1001, ""), (3000, "mine"), (4999, "mine")] {
        let client = Client::connect(&server, "echo").await;
        assert_eq!(client.close(code, reason).await, (code, reason.to_owned()));
        server.until_left("echo").await;
    }
}

#[tokio::test]
async fn messages_with_the_close_right_behind_them_are_answered_before_it() {
    let server = Server::standard().await;
    let texts: Vec<_> = (0..20).map(|number| format!("{number}")).collect();
    let mut bytes = Vec::new();
    for text in &texts {
        bytes.extend(frame(TEXT, text.as_bytes()));
    }
    bytes.extend(close(3000));
    for service in ["echo", "ping"] {
        for round in 0..50 {
            let mut raw = Raw::join(&server, service).await;
            // In one write, or in two of which the second is the close.
            let (first, rest) = bytes.split_at(bytes.len() - round % 2 * close(3000).len());
            raw.send(first).await;
            raw.send(rest).await;
            for text in &texts {
                assert_eq!(raw.frame().await, (TEXT, text.clone().into_bytes()));
            }
            assert_eq!(raw.closed().await.0, 3000, "{service}, round {round}");
            assert_eq!(raw.end().await, b"");
        }
    }
    let counts = server.app().counts();
    assert_eq!(counts.bus.messages.lost_gone, 0);
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_without_one() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    raw.send(&frame(CLOSE, b"")).await;
    assert_eq!(raw.frame().await, (CLOSE, Vec::new()));
    assert_eq!(raw.end().await, b"");
    server.until_left("echo").await;
}

#[tokio::test]
async fn a_close_is_answered_to_a_client_that_then_ends_its_side() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    raw.send(&close(1000)).await;
    raw.half_close().await;
    assert_eq!(raw.closed().await.0, 1000);
    assert_eq!(raw.end().await, b"");
    server
        .until("the session is gone", |server| {
            server.app().sessions_open() == 0
        })
        .await;
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_is_answered_with_1002() {
    let server = Server::standard().await;
    let unmasked = vec![TEXT, 2, b'h', b'i'];
    let half_a_code = frame(CLOSE, &[3]);
    let ping_too_long = frame(PING, &[0; 126]);
    let nothing_to_continue = frame(0x80, b"hi");
    let mut broken: Vec<(String, Vec<u8>)> = vec![
        ("unmasked".into(), unmasked),
        ("fragmented ping".into(), frame(0x09, b"")),
        ("fragmented close".into(), frame(0x08, b"")),
        ("half a close code".into(), half_a_code),
        ("a ping of 126 bytes".into(), ping_too_long),
        ("nothing to continue".into(), nothing_to_continue),
        (
            "text in a text".into(),
            [frame(0x01, b"a"), frame(TEXT, b"b")].concat(),
        ),
        (
            "a length not in its shortest form".into(),
            vec![TEXT, 0xfe, 0, 1, 0, 0, 0, 0, b'a'],
        ),
    ];
    for bit in [0x10, 0x20, 0x40] {
        broken.push((format!("reserved bit {bit:#x}"), frame(TEXT | bit, b"hi")));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        broken.push((
            format!("reserved opcode {opcode:#x}"),
            frame(0x80 | opcode, b""),
        ));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        broken.push((format!("close code {code}"), close(code)));
    }
    for (what, bytes) in broken {
        assert_eq!(code_for(&server, &bytes).await, 1002, "{what}");
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_answered_with_1007() {
    let server = Server::standard().await;
    let euro_cut = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\x28")].concat();
    let unfinished = [frame(0x01, b"\xe2"), frame(0x80, b"\x82")].concat();
    for (what, bytes) in [
        ("whole", frame(TEXT, b"caf\xe9")),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80")),
        ("split over fragments", euro_cut),
        ("unfinished at the end", unfinished),
        ("a close reason", frame(CLOSE, b"\x03\xe8\xff")),
    ] {
        assert_eq!(code_for(&server, &bytes).await, 1007, "{what}");
    }
}

#[tokio::test]
async fn a_character_may_be_split_over_fragments() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    let parts = [
        frame(0x01, b"\xe2"),
        frame(PING, b"between"),
        frame(0x80, b"\x82\xac"),
    ];
    raw.send(&parts.concat()).await;
    let mut frames = [raw.frame().await, raw.frame().await];
    frames.sort();
    assert_eq!(frames[0], (TEXT, b"\xe2\x82\xac".to_vec()));
    assert_eq!(frames[1], (PONG, b"between".to_vec()));
}

#[tokio::test]
async fn a_message_at_the_limit_passes_and_one_byte_more_is_answered_with_1009() {
    let message_bytes = 1000;
    let limits = Limits {
        message_bytes,
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("echo", echo)).await;
    let most = vec![7; message_bytes];
    let more = vec![7; message_bytes + 1];
    let mut client = Client::connect(&server, "echo").await;
    client.send(most.clone()).await;
    assert_eq!(client.next().await, Message::binary(most.clone()));
    client.close(1000, "").await;
    assert_eq!(
        code_for(&server, &frame(BINARY, &more)).await,
        1009,
        "whole"
    );
    let fragments = [frame(0x02, &most), frame(0x80, &[7])].concat();
    assert_eq!(code_for(&server, &fragments).await, 1009, "in fragments");
    let flood = frame(BINARY, &vec![7; 300_000]);
    assert_eq!(
        code_for(&server, &flood).await,
        1009,
        "much that nobody reads"
    );
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_and_a_pong_with_nothing() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    for payload in [&b""[..], b"abc", &[0xff; 125]] {
        raw.send(&frame(PONG, b"unasked")).await;
        raw.send(&frame(PING, payload)).await;
        assert_eq!(raw.frame().await, (PONG, payload.to_vec()));
    }
}

#[tokio::test]
async fn a_client_that_is_reset_loses_its_lease() {
    let server = Server::standard().await;
    let mut witness = Client::connect(&server, "ping").await;
    let raw = Raw::join(&server, "ping").await;
    assert_eq!(server.status("ping").clients, 2);
    raw.kill();
    server
        .until("one lease is left", |server| {
            server.status("ping").clients == 1
        })
        .await;
    witness.round_trip("unmoved").await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_without_a_close_loses_its_lease() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    raw.half_close().await;
    assert_eq!(raw.end().await, b"");
    server.until_left("echo").await;
    server
        .until("the session is gone", |server| {
            server.app().sessions_open() == 0
        })
        .await;
}

#[tokio::test]
async fn a_client_that_ends_amid_a_frame_loses_its_lease() {
    let server = Server::standard().await;
    let mut raw = Raw::join(&server, "echo").await;
    let whole = frame(TEXT, b"never finished");
    raw.send(&whole[..5]).await;
    raw.half_close().await;
    assert_eq!(raw.end().await, b"");
    server.until_left("echo").await;
}
