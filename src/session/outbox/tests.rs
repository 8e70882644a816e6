//! The tests of what an outbox writes, counts and keeps.

use std::task::Waker;

use futures::io::{BufWriter, Cursor};

use super::buffer::{FREE, FREE_BYTES_MAX};
use super::*;

/// Joins these texts into one block of frames.
fn joined(texts: &[&str]) -> Frames {
    let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
    Frames::join(each.iter()).expect("one at least")
}

#[test]
fn what_is_written_is_flushed() {
    let metrics = Metrics::default();
    let mut outbox = Outbox::default();
    outbox.push(Frame::text("a").frames(), None);
    let mut stream = BufWriter::with_capacity(64, Cursor::new(Vec::new()));
    let mut cx = Context::from_waker(Waker::noop());
    let sent = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
    assert!(matches!(sent, Poll::Ready(Ok(()))));
    assert_eq!(stream.get_ref().get_ref(), b"\x81\x01a");
    assert!(
        outbox.own.is_none() && outbox.shared.is_none(),
        "nothing is kept"
    );
    assert_eq!(metrics.counts().messages_out, 1);
}

#[test]
fn what_a_broken_connection_has_not_taken_whole_is_counted_as_lost() {
    // Two frames of three bytes; the socket accepts `room` bytes.
    for (room, sent) in [(0, 0), (2, 0), (3, 1), (5, 1)] {
        let metrics = Metrics::default();
        let mut outbox = Outbox::default();
        outbox.push(Frame::text("a").frames(), None);
        outbox.push(Frame::text("b").frames(), None);
        let mut space = vec![0; room];
        let mut stream = Cursor::new(space.as_mut_slice());
        let mut cx = Context::from_waker(Waker::noop());
        let result = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
        assert!(matches!(result, Poll::Ready(Err(_))), "no more room");
        outbox.abandon(&metrics);
        let counts = metrics.counts();
        assert_eq!((counts.messages_out, counts.lost_unsent), (sent, 2 - sent));
        assert_eq!(outbox.len(), 0);
    }
}

/// How two messages of one batch are counted when only some of their bytes are written.
#[test]
fn of_what_came_together_each_message_is_written_or_lost_by_itself() {
    for (room, sent) in [(0, 0), (2, 0), (3, 1), (5, 1)] {
        let metrics = Metrics::default();
        let mut outbox = Outbox::default();
        outbox.push(&joined(&["a", "b"]), None);
        assert_eq!((outbox.messages(), outbox.len()), (2, 6));
        let mut space = vec![0; room];
        let mut stream = Cursor::new(space.as_mut_slice());
        let mut cx = Context::from_waker(Waker::noop());
        let result = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
        assert!(matches!(result, Poll::Ready(Err(_))), "no more room");
        assert_eq!(outbox.abandon(&metrics), 2 - sent);
        let counts = metrics.counts();
        assert_eq!((counts.messages_out, counts.lost_unsent), (sent, 2 - sent));
    }
}

#[test]
fn what_came_together_is_written_as_it_is_and_counted_one_by_one() {
    let frame = Frame::text("x");
    for (before, after) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
        let metrics = Metrics::default();
        let mut outbox = Outbox::default();
        (0..before).for_each(|_| outbox.push(frame.frames(), None));
        outbox.push(&joined(&["a", "b"]), Some(Instant::ZERO));
        (0..after).for_each(|_| outbox.push(frame.frames(), None));
        let mut written = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let sent = outbox.poll_send(&mut cx, &mut written, &metrics, Instant::ZERO);
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        let x = |count| frame.as_bytes().repeat(count);
        let expected = [x(before), b"\x81\x01a\x81\x01b".to_vec(), x(after)];
        assert_eq!(written, expected.concat());
        let counts = metrics.counts();
        assert_eq!(counts.messages_out, (before + 2 + after) as u64);
        assert_eq!(counts.written_after.count(), 2, "those a service published");
        assert!(outbox.is_settled());
    }
}

/// Cuts an outbox of three frames of three bytes after `written` bytes.
fn assert_cut(mut outbox: Outbox, written: usize, kept: usize) {
    let metrics = Metrics::default();
    let mut space = vec![0; written];
    let mut stream = Cursor::new(space.as_mut_slice());
    let mut cx = Context::from_waker(Waker::noop());
    let sent = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
    assert!(matches!(sent, Poll::Ready(Err(_))), "there is no more room");
    assert_eq!(outbox.written(), written);
    outbox.cut(&metrics);
    assert_eq!(outbox.len(), kept * 3, "{written} bytes written");
    assert_eq!(outbox.is_empty(), kept == 0);
    assert_eq!(metrics.counts().lost_unsent, 3 - kept as u64);
}

#[test]
fn a_cut_keeps_the_frame_that_is_begun_and_nothing_after_it() {
    for (written, kept) in [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)] {
        let mut one_by_one = Outbox::default();
        for text in ["a", "b", "c"] {
            one_by_one.push(Frame::text(text).frames(), None);
        }
        assert_cut(one_by_one, written, kept);
        let mut together = Outbox::default();
        together.push(&joined(&["a", "b", "c"]), None);
        assert_cut(together, written, kept);
    }
}

/// Sends the whole outbox into a socket that accepts `room` bytes.
fn send(outbox: &mut Outbox, room: usize) -> Poll<io::Result<()>> {
    struct Narrow(usize);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken > 0 {
                Poll::Ready(Ok(taken))
            } else {
                Poll::Pending
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    let mut cx = Context::from_waker(Waker::noop());
    outbox.poll_send(
        &mut cx,
        &mut Narrow(room),
        &Metrics::default(),
        Instant::ZERO,
    )
}

#[test]
fn what_was_written_leaves_its_memory_to_the_next_unless_that_is_much() {
    for (bytes, kept) in [(FREE_BYTES_MAX, true), (FREE_BYTES_MAX + 1, false)] {
        FREE.set(None);
        let mut outbox = Outbox::default();
        outbox.own().bytes.reserve_exact(bytes);
        outbox.push(Frame::text("a").frames(), None);
        assert!(send(&mut outbox, 3).is_ready());
        let buffer = FREE.take();
        assert_eq!(buffer.is_some(), kept, "{bytes} bytes");
        assert!(buffer.is_none_or(|buffer| buffer.bytes.is_empty() && buffer.written == 0));
    }
}

#[test]
fn what_waits_for_the_socket_takes_no_more_memory_than_it_needs() {
    let mut outbox = Outbox::default();
    outbox.own().bytes.reserve(10_000);
    outbox.own().spans.reserve(100);
    outbox.push(Frame::text("a").frames(), None);
    assert!(send(&mut outbox, 2).is_pending());
    let buffer = outbox.own();
    assert_eq!((buffer.bytes.capacity(), buffer.spans.capacity()), (3, 1));
    assert_eq!(buffer.written, 2);
    // Capacity up to twice the length is left as it is.
    for (reserved, capacity) in [(60, 60), (61, 30)] {
        let mut outbox = Outbox::default();
        outbox.own().bytes.reserve_exact(reserved);
        for _ in 0..10 {
            outbox.push(Frame::text("a").frames(), None);
        }
        assert!(send(&mut outbox, 2).is_pending());
        assert_eq!(outbox.own().bytes.capacity(), capacity);
    }
}
