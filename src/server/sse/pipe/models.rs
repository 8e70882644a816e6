//! The pipe with a session and a response on two threads.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::sync::model;
use crate::wire::{CloseCode, CloseFrame, ControlKind, Frame, append_control};

async fn write(socket: &mut EventSocket, bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, bytes)).await?;
    poll_fn(|cx| Pin::new(&mut *socket).poll_flush(cx)).await
}

/// A session writes two events and ends, with a close frame or without, while a response takes
/// them; bound 2.
///
/// Catches: a write, an end or a taking that wakes nobody, and an end that overtakes an event.
#[test]
fn a_response_gets_all_events_and_then_the_end() {
    for closes in [true, false] {
        model(Some(2), move || {
            let Ends {
                mut socket,
                reader,
                over,
            } = ends(Duration::ZERO);
            let session = thread::spawn(move || {
                block_on(async {
                    let event = Frame::text("a\n\n");
                    write(&mut socket, event.as_bytes()).await?;
                    write(&mut socket, event.as_bytes()).await?;
                    let mut close = Vec::new();
                    if closes {
                        let frame = CloseFrame::new(CloseCode::NORMAL, "");
                        append_control(&mut close, ControlKind::Close, &frame.encode());
                        write(&mut socket, &close).await?;
                    }
                    io::Result::Ok(())
                })
            });
            let (mut text, mut end) = (Vec::new(), None);
            while end.is_none() {
                match block_on(poll_fn(|cx| reader.poll_part(cx))) {
                    Part::Text(part) => text.extend_from_slice(&part),
                    part @ (Part::Broken | Part::End) => end = Some(part),
                }
            }
            assert_eq!(text, [FIRST, b"a\n\na\n\n"].concat());
            assert_eq!(end == Some(Part::End), closes);
            assert!(session.join().expect("no panic").is_ok());
            drop(over);
        });
    }
}

/// A response goes away while its session writes and then reads; bound 3.
///
/// Catches: a session that waits for ever for a client that is gone.
#[test]
fn a_session_learns_that_its_client_is_gone_wherever_it_is() {
    model(Some(3), || {
        let Ends {
            mut socket, reader, ..
        } = ends(Duration::ZERO);
        let response = thread::spawn(move || drop(reader));
        let ended = block_on(async {
            write(&mut socket, Frame::text("a").as_bytes()).await?;
            let mut into = [0; 6];
            poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut into)).await
        });
        response.join().expect("no panic");
        assert_eq!(ended.map_err(|error| error.kind()), Err(gone().kind()));
    });
}
