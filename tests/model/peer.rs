//! A client made by hand: any bytes in, and a strict look at every byte that comes out.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use busline::session;
use futures::io::{AsyncRead, AsyncWrite};

/// The client's end; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Peer {
    pipe: Arc<Mutex<Pipe>>,
}

/// The server's end.
pub(crate) struct Socket(Peer);

#[derive(Default)]
struct Pipe {
    to_server: VecDeque<u8>,
    from_server: Vec<u8>,
    /// Bytes the socket still takes.
    room: usize,
    ended: bool,
    reset: bool,
    /// The server has ended its side.
    closed: bool,
    /// The server is not told that there is something to be read, and does not find it.
    untold: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Binary(Vec<u8>),
    Close(Option<u16>),
    Ping,
    Pong(Vec<u8>),
    Text(String),
}

impl Peer {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().expect("no panic under this lock")
    }

    /// The other end.
    pub(crate) fn socket(&self) -> Socket {
        Socket(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.pipe();
        change(&mut pipe);
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        drop(pipe);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Sends a masked frame.
    pub(crate) fn send(&self, fin: bool, opcode: u8, payload: &[u8]) {
        let mut frame = vec![u8::from(fin) << 7 | opcode];
        match u8::try_from(payload.len()) {
            Ok(len) if len < 126 => frame.push(0x80 | len),
            Ok(_) | Err(_) => {
                let len = u16::try_from(payload.len()).expect("a short payload");
                frame.push(0x80 | 126);
                frame.extend(len.to_be_bytes());
            }
        }
        let mask = [0x5a, 0xa5, 0x3c, 0xc3];
        frame.extend(mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.send_raw(&frame);
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        self.change(|pipe| pipe.to_server.extend(bytes));
    }

    /// Has the system tell the server of what it may read, from now on, or not yet.
    pub(crate) fn tell(&self, tells: bool) {
        self.change(|pipe| pipe.untold = !tells);
    }

    /// Ends this side of the stream.
    pub(crate) fn end(&self) {
        self.change(|pipe| pipe.ended = true);
    }

    /// Breaks the connection.
    pub(crate) fn reset(&self) {
        self.change(|pipe| pipe.reset = true);
    }

    /// Lets the server write so many more bytes.
    pub(crate) fn make_room(&self, bytes: usize) {
        self.change(|pipe| pipe.room += bytes);
    }

    /// Whether the server has said goodbye.
    pub(crate) fn is_closed(&self) -> bool {
        let said_close = self
            .said()
            .iter()
            .any(|said| matches!(said, Said::Close(_)));
        let pipe = self.pipe();
        pipe.closed || pipe.reset || said_close
    }

    /// Whatever came is legal, and nothing comes after the close frame.
    pub(crate) fn check(&self) {
        let said = self.said();
        let close = said.iter().position(|said| matches!(said, Said::Close(_)));
        assert!(
            close.is_none_or(|at| at + 1 == said.len()),
            "more after the close: {said:?}"
        );
    }

    /// The whole frames that came; the bytes of one that is not whole yet must begin it legally.
    pub(crate) fn said(&self) -> Vec<Said> {
        let pipe = self.pipe();
        let mut rest = pipe.from_server.as_slice();
        let mut said = Vec::new();
        while let Some((frame, tail)) = parse(rest) {
            said.push(frame);
            rest = tail;
        }
        said
    }
}

/// The first frame, if it is whole.
fn parse(bytes: &[u8]) -> Option<(Said, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert_eq!(first & 0xf0, 0x80, "a fragment or a reserved bit");
    assert_eq!(second & 0x80, 0, "a masked frame");
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_be_bytes(*len));
            assert!(len >= 126, "a length that is not minimal");
            (len, rest)
        }
        127 => panic!("a message longer than any that was sent"),
        len => (usize::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    let opcode = first & 0x0f;
    assert!(opcode < 8 || len <= 125, "a control frame that is too long");
    let said = match opcode {
        2 => Said::Binary(payload.to_vec()),
        1 => Said::Text(String::from_utf8(payload.to_vec()).expect("a text is UTF-8")),
        8 => Said::Close(close_code(payload)),
        9 => Said::Ping,
        10 => Said::Pong(payload.to_vec()),
        opcode => panic!("a frame of opcode {opcode}"),
    };
    Some((said, rest))
}

fn close_code(payload: &[u8]) -> Option<u16> {
    if payload.is_empty() {
        return None;
    }
    let (code, reason) = payload
        .split_first_chunk()
        .expect("a close has a code or nothing");
    std::str::from_utf8(reason).expect("a reason is UTF-8");
    let code = u16::from_be_bytes(*code);
    let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    assert!(legal, "the close code {code} may not be sent");
    Some(code)
}

impl Pipe {
    /// Whether the server would find nothing, not even an end.
    fn has_nothing(&self) -> bool {
        self.to_server.is_empty() && !self.ended && !self.reset
    }
}

impl session::Socket for Socket {
    fn is_silent(&self) -> bool {
        let pipe = self.0.pipe();
        (pipe.has_nothing() || pipe.untold) && pipe.reader.is_some()
    }

    fn has_data(&self) -> bool {
        !self.0.pipe().has_nothing()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.pipe();
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // Also of one that finds something: it need not read again to be told of more.
        pipe.reader = Some(cx.waker().clone());
        if pipe.has_nothing() || pipe.untold {
            return Poll::Pending;
        }
        let count = into.len().min(pipe.to_server.len());
        for (slot, byte) in into.iter_mut().zip(pipe.to_server.drain(..count)) {
            *slot = byte;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.pipe();
        assert!(!pipe.closed, "a write after the end of the stream");
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = pipe.room.min(bytes.len());
        if count == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.room -= count;
        pipe.from_server.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.pipe().closed = true;
        Poll::Ready(Ok(()))
    }
}
