//! The pipe between a session and a response, step by step.

use super::*;
use crate::wakes::Wakes;
use crate::wire::{
    CloseCode, CloseFrame, ControlKind, ControlPayload, Decoder, Event, Frame, append_control,
};

const RETRY: Duration = Duration::from_millis(2_345);

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A pipe whose first bytes are taken.
fn begun() -> Ends {
    let ends = ends(RETRY);
    assert_eq!(text(&ends.reader), ": busline\n\n");
    ends
}

fn text(reader: &EventReader) -> String {
    match reader.poll_part(&cx()) {
        Poll::Ready(Part::Text(text)) => String::from_utf8(text.to_vec()).expect("text"),
        part @ (Poll::Ready(Part::Broken | Part::End) | Poll::Pending) => {
            panic!("no text: {part:?}")
        }
    }
}

fn write(socket: &mut EventSocket, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(socket).poll_write(&mut cx(), bytes)
}

fn is_flushed(socket: &mut EventSocket) -> bool {
    let flushed = Pin::new(socket).poll_flush(&mut cx());
    flushed
        .map(|result| result.expect("the client is there"))
        .is_ready()
}

/// The bytes, the end (`Ok(0)`) or the error that a session reads.
fn read(socket: &mut EventSocket) -> Poll<Result<Vec<u8>, io::ErrorKind>> {
    let mut into = [0; 100];
    let read = Pin::new(socket).poll_read(&mut cx(), &mut into);
    read.map(|read| match read {
        Ok(bytes) => Ok(into[..bytes].to_vec()),
        Err(error) => Err(error.kind()),
    })
}

fn control(kind: ControlKind, payload: &ControlPayload) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_control(&mut bytes, kind, payload);
    bytes
}

fn close(code: CloseCode) -> Vec<u8> {
    control(ControlKind::Close, &CloseFrame::new(code, "why").encode())
}

#[test]
fn a_write_waits_until_the_response_has_taken_the_one_before() {
    let Ends {
        mut socket, reader, ..
    } = ends(RETRY);
    let frame = Frame::text("data: a\n\n");
    let (wakes, waker) = Wakes::new();
    let mut waiting = Context::from_waker(&waker);
    let written = Pin::new(&mut socket).poll_write(&mut waiting, frame.as_bytes());
    assert!(written.is_pending(), "the first bytes are on their way");
    assert_eq!(text(&reader), ": busline\n\n");
    assert_eq!(wakes.count(), 1);
    assert!(reader.poll_part(&Context::from_waker(&waker)).is_pending());
    let taken = write(&mut socket, frame.as_bytes());
    assert!(matches!(taken, Poll::Ready(Ok(bytes)) if bytes == frame.as_bytes().len()));
    assert_eq!(wakes.count(), 2, "the response has something to take");
    assert!(!is_flushed(&mut socket) && write(&mut socket, b"x").is_pending());
    assert_eq!(text(&reader), "data: a\n\n");
    assert!(is_flushed(&mut socket));
}

#[test]
fn a_long_write_is_taken_in_parts() {
    let Ends {
        mut socket, reader, ..
    } = begun();
    let frame = Frame::text("x".repeat(3 * WRITE_BYTES_MAX));
    let (mut rest, mut all, mut parts) = (frame.as_bytes(), String::new(), 0);
    while !rest.is_empty() {
        let Poll::Ready(Ok(taken)) = write(&mut socket, rest) else {
            panic!("the part before was taken");
        };
        assert!(taken <= WRITE_BYTES_MAX);
        rest = &rest[taken..];
        all.push_str(&text(&reader));
        parts += 1;
    }
    assert_eq!((all.len(), parts), (3 * WRITE_BYTES_MAX, 4));
}

#[test]
fn a_ping_is_a_comment_and_its_pong_comes_once_the_response_has_taken_it() {
    let Ends {
        mut socket, reader, ..
    } = begun();
    let (wakes, waker) = Wakes::new();
    let mut waiting = Context::from_waker(&waker);
    let mut into = [0; 6];
    let silent = Pin::new(&mut socket).poll_read(&mut waiting, &mut into);
    assert!(silent.is_pending(), "a client of events says nothing");
    let ping = control(ControlKind::Ping, &ControlPayload::EMPTY);
    assert!(write(&mut socket, &ping).is_ready());
    assert!(read(&mut socket).is_pending(), "nobody has taken it");
    let mut waiting = Context::from_waker(&waker);
    let silent = Pin::new(&mut socket).poll_read(&mut waiting, &mut into);
    assert!(silent.is_pending());
    assert_eq!(text(&reader), ":\n\n");
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Ok(pong)) = read(&mut socket) else {
        panic!("it is answered");
    };
    let mut input = pong.as_slice();
    let event = Decoder::new(100)
        .decode(&mut input, 1)
        .expect("a legal frame");
    assert!(matches!(event, Some(Event::Pong(_))), "{event:?}");
    assert!(input.is_empty() && read(&mut socket).is_pending(), "once");
}

#[test]
fn a_close_frame_ends_the_stream_and_the_session_waits_for_the_connection() {
    for (code, last) in [
        (CloseCode::GOING_AWAY, "retry: 2345\n\n"),
        (CloseCode::INTERNAL_ERROR, ""),
    ] {
        let Ends {
            mut socket, reader, ..
        } = begun();
        let hold = reader.hold();
        let event = Frame::text("data: last\n\n");
        let bytes = [event.as_bytes(), &close(code)].concat();
        assert!(write(&mut socket, &bytes).is_ready());
        assert_eq!(text(&reader), format!("data: last\n\n{last}"));
        assert_eq!(reader.poll_part(&cx()), Poll::Ready(Part::End));
        assert!(is_flushed(&mut socket));
        drop(reader);
        assert!(read(&mut socket).is_pending(), "the connection goes on");
        let (wakes, waker) = Wakes::new();
        let mut waiting = Context::from_waker(&waker);
        let mut into = [0; 6];
        assert!(
            Pin::new(&mut socket)
                .poll_read(&mut waiting, &mut into)
                .is_pending()
        );
        drop(hold);
        assert_eq!(wakes.count(), 1);
        assert_eq!(read(&mut socket), Poll::Ready(Ok(vec![])), "an orderly end");
    }
}

#[test]
fn a_client_that_is_gone_before_the_end_is_lost() {
    let reset = Poll::Ready(Err(io::ErrorKind::ConnectionReset));
    for has_text in [false, true] {
        let Ends {
            mut socket, reader, ..
        } = begun();
        let hold = reader.hold();
        let frame = Frame::text("data: a\n\n");
        if has_text {
            assert!(write(&mut socket, frame.as_bytes()).is_ready());
        }
        drop(reader);
        assert_eq!(read(&mut socket), reset);
        let error = |result: Poll<io::Result<()>>| result.map_err(|error| error.kind());
        let written = write(&mut socket, frame.as_bytes()).map_ok(drop);
        assert_eq!(error(written), reset.clone().map_ok(|_: Vec<u8>| ()));
        if has_text {
            let flushed = Pin::new(&mut socket).poll_flush(&mut cx());
            assert_eq!(error(flushed), reset.clone().map_ok(|_: Vec<u8>| ()));
        }
        drop(hold);
        assert_eq!(read(&mut socket), reset);
    }
    // With the end on its way, too, unless the response has taken it.
    let Ends {
        mut socket, reader, ..
    } = begun();
    let hold = reader.hold();
    assert!(write(&mut socket, &close(CloseCode::GOING_AWAY)).is_ready());
    drop((reader, hold));
    assert!(read(&mut socket).is_ready());
}

#[test]
fn a_session_that_ends_without_a_close_frame_breaks_the_response_off() {
    let Ends {
        mut socket,
        reader,
        mut over,
    } = begun();
    assert!(write(&mut socket, Frame::text("data: a\n\n").as_bytes()).is_ready());
    assert!(matches!(over.try_recv(), Ok(None)));
    drop(socket);
    assert!(over.try_recv().is_err(), "the connection is told");
    assert_eq!(text(&reader), "data: a\n\n");
    assert_eq!(reader.poll_part(&cx()), Poll::Ready(Part::Broken));
    // One that has closed its stream does not.
    let Ends {
        mut socket, reader, ..
    } = begun();
    let (wakes, waker) = Wakes::new();
    assert!(reader.poll_part(&Context::from_waker(&waker)).is_pending());
    assert!(Pin::new(&mut socket).poll_close(&mut cx()).is_ready());
    assert_eq!(wakes.count(), 1);
    drop(socket);
    assert_eq!(reader.poll_part(&cx()), Poll::Ready(Part::End));
}
