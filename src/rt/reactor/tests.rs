//! The readiness that a reactor reports for real sockets.
#![expect(
    clippy::unwrap_used,
    reason = "sockets of this machine, of which none is to fail"
)]

use std::future::poll_fn;
use std::pin::{Pin, pin};

use mio::net::UnixStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream as Peer};

use super::sources::Side;
use super::*;
use crate::wakes::Wakes;

/// More bytes than the system buffers between two sockets.
const MUCH: usize = 16 << 20;

/// Makes a socket of the reactor, and the other end of its connection.
async fn pair(reactor: &Reactor) -> (TcpStream, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer::connect(listener.local_addr().unwrap());
    let (accepted, peer) = futures::join!(listener.accept(), peer);
    let (stream, _) = accepted.unwrap();
    let stream = TcpStream::new(stream, reactor.sources()).unwrap();
    (stream, peer.unwrap())
}

/// Runs a task while the reactor reports the readiness of its sockets.
async fn run<T>(reactor: &mut Reactor, task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    poll_fn(|cx| {
        reactor.poll(cx);
        task.as_mut().poll(cx)
    })
    .await
}

/// The byte at position `at` of the sent data.
fn byte(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

/// Reads to the end, which must come after `much` bytes, and checks each byte.
async fn read_all(from: &mut (impl AsyncReadExt + Unpin), piece: usize, much: usize) {
    let (mut buffer, mut count) = (vec![0; piece], 0);
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        for (index, got) in buffer[..read].iter().enumerate() {
            assert_eq!(*got, byte(count + index), "at {}", count + index);
        }
        count += read;
    }
    assert_eq!(count, much);
}

fn bytes(much: usize) -> Vec<u8> {
    (0..much).map(byte).collect()
}

#[tokio::test]
async fn what_has_come_is_seen_before_anybody_tells_of_it_and_until_it_is_read() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    assert!(!stream.has_data());
    peer.write_all(b"ab").await.unwrap();
    assert!(stream.has_data());
    for left in [true, false] {
        assert_ne!(run(&mut reactor, stream.read_u8()).await.unwrap(), 0);
        assert_eq!(stream.has_data(), left);
    }
    drop(peer);
    assert!(run(&mut reactor, stream.read_u8()).await.is_err());
    assert!(stream.has_data(), "an end can be read again");
}

#[tokio::test]
async fn what_comes_is_read_in_pieces_of_any_size_up_to_the_end() {
    let mut reactor = Reactor::new().unwrap();
    for piece in [1, 2, 3, 7, 1000] {
        let (mut stream, mut peer) = pair(&reactor).await;
        let write = async {
            for part in bytes(500).chunks(5) {
                peer.write_all(part).await.unwrap();
                yield_now().await;
            }
            drop(peer);
        };
        let read = read_all(&mut stream, piece, 500);
        run(&mut reactor, futures::future::join(write, read)).await;
    }
}

#[tokio::test]
async fn what_is_left_of_more_than_was_asked_for_is_read_without_news() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    let read = async {
        peer.write_all(&bytes(10)).await.unwrap();
        for at in 0..10 {
            assert_eq!(stream.read_u8().await.unwrap(), byte(at));
        }
    };
    run(&mut reactor, read).await;
    drop(peer);
}

#[tokio::test]
async fn a_socket_that_is_wrongly_said_to_be_closed_is_waited_for() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    reactor.sources().set_closed(stream.key, Side::Read);
    assert!(futures::poll!(pin!(stream.read_u8())).is_pending());
    let read = async {
        peer.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
    };
    run(&mut reactor, read).await;
    let content = bytes(MUCH);
    let mut written = 0;
    while let Poll::Ready(taken) = futures::poll!(pin!(stream.write(&content[written..]))) {
        written += taken.unwrap();
    }
    reactor.sources().set_closed(stream.key, Side::Write);
    assert!(futures::poll!(pin!(stream.write(&content[written..]))).is_pending());
    let write = async {
        stream.write_all(&content[written..]).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let read = read_all(&mut peer, 65_536, MUCH);
    run(&mut reactor, futures::future::join(write, read)).await;
}

#[tokio::test]
async fn what_a_full_socket_does_not_take_it_takes_later() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    let write = async {
        stream.write_all(&bytes(MUCH)).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let read = read_all(&mut peer, 65_536, MUCH);
    run(&mut reactor, futures::future::join(write, read)).await;
}

#[tokio::test]
async fn a_socket_that_was_full_and_has_room_again_needs_no_more_news() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    let content = bytes(MUCH);
    let mut written = 0;
    while let Poll::Ready(taken) = futures::poll!(pin!(stream.write(&content[written..]))) {
        written += taken.unwrap();
    }
    let mut read = vec![0; written];
    let write = stream.write_all(b"a");
    let (wrote, read) = run(
        &mut reactor,
        futures::future::join(write, peer.read_exact(&mut read)),
    )
    .await;
    assert!(wrote.is_ok() && read.is_ok());
    for _ in 0..2 {
        assert!(futures::poll!(pin!(stream.write_all(b"b"))).is_ready());
    }
}

#[tokio::test]
async fn a_peer_that_sends_no_more_is_told_of_while_its_socket_is_full() {
    let mut reactor = Reactor::new().unwrap();
    let (stream, mut peer) = pair(&reactor).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (full, is_full) = futures::channel::oneshot::channel();
    let mut full = Some(full);
    let content = bytes(MUCH);
    let write = async {
        let mut write = pin!(writer.write_all(&content));
        let written = poll_fn(|cx| {
            let polled = write.as_mut().poll(cx);
            if polled.is_pending() {
                full.take().map(|full| full.send(()));
            }
            polled
        });
        written.await.unwrap();
    };
    let ends = async {
        is_full.await.unwrap();
        peer.write_all(&bytes(3)).await.unwrap();
        peer.shutdown().await.unwrap();
        // The reader begins here, while the other socket is full.
        read_all(&mut reader, 100, 3).await;
        let mut taken = vec![0; MUCH];
        peer.read_exact(&mut taken).await.unwrap();
        assert!(taken == bytes(MUCH));
    };
    run(&mut reactor, futures::future::join(write, ends)).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_for_who_waits() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, peer) = pair(&reactor).await;
    let read = async {
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = stream.write_all(b"a").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        stream.shutdown().await.unwrap();
    };
    let breaks = async {
        // The peer aborts the connection: no data, no orderly end.
        peer.set_zero_linger().unwrap();
        drop(peer);
    };
    run(&mut reactor, futures::future::join(read, breaks)).await;
}

#[tokio::test]
async fn more_sockets_than_are_told_of_at_once_are_told_of_in_turn() {
    let mut reactor = Reactor::of(2).unwrap();
    let (mut streams, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let (stream, mut peer) = pair(&reactor).await;
        peer.write_all(b"a").await.unwrap();
        streams.push(stream);
        peers.push(peer);
    }
    let read = streams.iter_mut().map(|stream| stream.read_u8());
    let read = futures::future::try_join_all(read);
    assert_eq!(run(&mut reactor, read).await.unwrap(), [b'a'; 9]);
}

/// Makes a socket of another kind, which reports that it is writable, and its other end.
fn other(reactor: &Reactor) -> [UnixStream; 2] {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    reactor.sources().insert(&mut ours).unwrap();
    [ours, theirs]
}

#[tokio::test]
async fn who_asks_is_woken_while_there_may_be_more_and_not_after() {
    let mut reactor = Reactor::of(2).unwrap();
    let _pairs = [(); 3].map(|()| other(&reactor));
    let (wakes, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(reactor.poll_epoll(&mut cx), 2);
    assert_eq!(wakes.count(), 0, "tokio has its turn first");
    yield_now().await;
    assert_eq!(wakes.count(), 1);
    assert_eq!(reactor.poll(&mut cx), 1);
    assert_eq!(reactor.poll_epoll(&mut cx), 0);
    yield_now().await;
    assert_eq!(wakes.count(), 1);
}

#[tokio::test]
async fn a_socket_that_cannot_be_told_of_has_no_place() {
    let reactor = Reactor::new().unwrap();
    let [mut ours, _theirs] = other(&reactor);
    let sources = reactor.sources();
    let error = sources.insert(&mut ours).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(format!("{sources:?}"), "Sources { sockets: 1, .. }");
}

#[tokio::test]
async fn the_place_of_a_socket_that_is_gone_is_of_the_next_one() {
    let mut reactor = Reactor::new().unwrap();
    let (first, mut its_peer) = pair(&reactor).await;
    its_peer.write_all(b"a").await.unwrap();
    let key = first.key;
    drop(first);
    let (mut second, mut peer) = pair(&reactor).await;
    assert_eq!(second.key, key);
    let read = async {
        let mut into = [0; 2];
        let nothing = futures::poll!(pin!(second.read(&mut into)));
        assert!(
            nothing.is_pending(),
            "what the other one was sent is not its own"
        );
        peer.write_all(b"bc").await.unwrap();
        second.read_exact(&mut into).await.unwrap();
        assert_eq!(&into, b"bc");
    };
    run(&mut reactor, read).await;
    drop(second);
    assert_eq!(
        format!("{:?}", reactor.sources()),
        "Sources { sockets: 0, .. }"
    );
}

#[tokio::test]
async fn sockets_that_outlive_their_reactor_still_tell_how_they_are() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    assert!(futures::poll!(pin!(stream.read_u8())).is_pending());
    run(&mut reactor, peer.write_all(b"a")).await.unwrap();
    drop(reactor);
    stream.write_all(b"b").await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap(), b'b');
}

/// Waits until a readiness was reported after the stream was last known to be silent.
async fn next_report(reactor: &mut Reactor, stream: &TcpStream) {
    poll_fn(|cx| {
        reactor.poll(cx);
        if stream.is_silent() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_has_given_all_is_silent_until_there_is_news_that_its_reader_hears() {
    let mut reactor = Reactor::new().unwrap();
    let (mut stream, mut peer) = pair(&reactor).await;
    let (wakes, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    let mut read = |stream: &mut TcpStream, most: usize| {
        let mut into = [0; 9];
        let mut into = ReadBuf::new(&mut into[..most]);
        let read = Pin::new(stream).poll_read(&mut cx, &mut into);
        read.map(|read| read.map(|()| into.filled().len()).unwrap())
    };
    assert!(!stream.is_silent(), "nobody knows yet");
    assert!(read(&mut stream, 9).is_pending() && stream.is_silent());
    // Being writable is a report, but not one of readable data.
    next_report(&mut reactor, &stream).await;
    assert!(read(&mut stream, 9).is_pending() && stream.is_silent());
    for count in 1..3 {
        peer.write_all(b"ab").await.unwrap();
        next_report(&mut reactor, &stream).await;
        assert_eq!(wakes.count(), count, "though it has not asked in vain");
        assert_eq!(read(&mut stream, 9), Poll::Ready(2));
        assert!(stream.is_silent());
    }
    peer.write_all(b"cdef").await.unwrap();
    next_report(&mut reactor, &stream).await;
    for _ in 0..2 {
        assert_eq!(read(&mut stream, 2), Poll::Ready(2));
        assert!(!stream.is_silent(), "there may be more");
    }
    assert!(read(&mut stream, 2).is_pending() && stream.is_silent());
    peer.write_all(b"g").await.unwrap();
    peer.shutdown().await.unwrap();
    next_report(&mut reactor, &stream).await;
    assert_eq!(read(&mut stream, 9), Poll::Ready(1));
    assert!(!stream.is_silent(), "it has ended");
    assert_eq!(read(&mut stream, 9), Poll::Ready(0));
    assert!(
        !stream.is_silent(),
        "it tells of its end whenever it is asked"
    );
}
