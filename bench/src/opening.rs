//! Opens all connections, many at a time, and reports the first failure.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::clock::now;
use super::connection::Connection;
use super::problem::Problem;
use super::progress::Progress;
use super::upgrade::accepted;

/// Maximum number of connections being opened at a time; a server bounds these for each address.
const AT_ONCE: usize = 128;

/// Size of the read buffer for responses.
const READ_BYTES: usize = 4096;

/// The connections to open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) server: SocketAddr,
    /// Local addresses for the connections, used in turn; if empty, the system chooses.
    pub(super) sources: Vec<IpAddr>,
    /// The different requests.
    pub(super) requests: Vec<Vec<u8>>,
    /// The index of each connection's request.
    pub(super) request_of: Vec<usize>,
    /// Longest time without progress.
    pub(super) timeout: Duration,
}

/// A connection that is being opened.
#[derive(Debug)]
enum Door {
    /// Not begun.
    Closed,
    /// Connected: the number of request bytes sent, and the bytes of the response received.
    Ajar {
        stream: TcpStream,
        sent: usize,
        answer: Vec<u8>,
    },
    Open(Connection),
}

impl Opening {
    /// Opens all connections, registered with the poll under their index.
    ///
    /// # Errors
    ///
    /// The first failed connection, or a timeout without progress.
    pub(super) fn open(
        &self,
        poll: &mut Poll,
        progress: &mut Progress,
    ) -> Result<Vec<Connection>, Problem> {
        let clients = self.request_of.len();
        let mut doors: Vec<_> = (0..clients).map(|_| Door::Closed).collect();
        let mut events = Events::with_capacity(AT_ONCE);
        let (mut begun, mut open) = (0, 0);
        while open < clients {
            while begun < clients && begun - open < AT_ONCE {
                doors[begun] = self.begin(begun, poll)?;
                begun += 1;
            }
            self.wait(poll, &mut events, open)?;
            for event in &events {
                let client = event.token().0;
                open += usize::from(self.push(client, &mut doors[client])?);
            }
            progress.opening(open, clients);
        }
        let connection = |door| match door {
            Door::Open(connection) => connection,
            Door::Closed | Door::Ajar { .. } => unreachable!("all are open"),
        };
        Ok(doors.into_iter().map(connection).collect())
    }

    /// Waits until there are events.
    fn wait(&self, poll: &mut Poll, events: &mut Events, open: usize) -> Result<(), Problem> {
        let start = now();
        while start.elapsed() < self.timeout {
            match poll.poll(events, Some(self.timeout)) {
                Ok(()) if !events.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Problem::Poll(error)),
            }
        }
        Err(Problem::Silent {
            open,
            clients: self.request_of.len(),
            seconds: self.timeout.as_secs_f64(),
        })
    }

    fn begin(&self, client: usize, poll: &Poll) -> Result<Door, Problem> {
        let begun = self.connect(client).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(client), interest)?;
            Ok(stream)
        });
        let stream = begun.map_err(|error| self.failed(client, error))?;
        Ok(Door::Ajar {
            stream,
            sent: 0,
            answer: Vec::new(),
        })
    }

    fn connect(&self, client: usize) -> io::Result<TcpStream> {
        let kind = Type::STREAM;
        let socket = Socket::new(Domain::for_address(self.server), kind, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.sources.get(client % self.sources.len().max(1)) {
            socket.bind(&SocketAddr::from((*source, 0)).into())?;
        }
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(error) if is_under_way(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    /// Continues a connection; returns whether it has become open.
    fn push(&self, client: usize, door: &mut Door) -> Result<bool, Problem> {
        let Door::Ajar {
            stream,
            sent,
            answer,
        } = door
        else {
            return Ok(false);
        };
        let request = &self.requests[self.request_of[client]];
        let is_answered = ask(stream, request, sent)
            .and_then(|()| hear(stream, answer))
            .map_err(|error| self.failed(client, error))?;
        let accepted = accepted(answer).map_err(|refusal| Problem::Refused {
            client: client + 1,
            clients: self.request_of.len(),
            refusal,
        })?;
        let Some(head) = accepted else {
            let ended = io::Error::new(ErrorKind::UnexpectedEof, "the server closed it unanswered");
            return match is_answered {
                true => Err(self.failed(client, ended)),
                false => Ok(false),
            };
        };
        let Door::Ajar { stream, answer, .. } = std::mem::replace(door, Door::Closed) else {
            unreachable!("it was ajar");
        };
        *door = Door::Open(Connection::new(stream, &answer[head..]));
        Ok(true)
    }

    fn failed(&self, client: usize, error: io::Error) -> Problem {
        Problem::Connect {
            client: client + 1,
            clients: self.request_of.len(),
            error,
        }
    }
}

/// Whether a connect continues in the background.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == ErrorKind::WouldBlock
}

/// Sends the rest of the request, until the socket accepts no more.
fn ask(stream: &mut TcpStream, request: &[u8], sent: &mut usize) -> io::Result<()> {
    while *sent < request.len() {
        match stream.write(&request[*sent..]) {
            Ok(len) => *sent += len,
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the available bytes of the response; returns whether the stream has ended.
fn hear(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; READ_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(len) => answer.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_answers_nothing_is_told_with_the_time_it_had() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let opening = Opening {
            server: listener.local_addr().expect("it is bound"),
            sources: Vec::new(),
            requests: vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()],
            request_of: vec![0, 0],
            timeout: Duration::from_micros(1),
        };
        let mut poll = Poll::new().expect("the system gives events");
        let opened = opening.open(&mut poll, &mut Progress::new());
        let problem = opened.expect_err("nobody accepts").to_string();
        for part in ["0 of 2", "0.000001 s", "--connect-timeout"] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }
}
