//! A client: real WebSocket framing over a simulated connection, doing what its script says.

use std::time::Duration;

use futures::StreamExt;
use futures::{SinkExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::net::Dial;
use crate::plan::{Script, Step};
use crate::rooms::asked;
use crate::trace::{Digest, Ending, Event, Recorder};

impl Script {
    /// How often it tries to connect.
    pub(crate) fn attempts(&self) -> u32 {
        if self.again { ATTEMPTS } else { 1 }
    }

    /// That it begins to.
    pub(crate) fn connecting(&self) -> Event {
        Event::Connecting {
            client: self.client,
            service: self.service.clone(),
            zone: self.zone,
        }
    }
}

/// Attempts of a client that tries again.
const ATTEMPTS: u32 = 60;

/// How long a client waits for its handshake, and for the server's close frame.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client waits before it tries again.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// tungstenite clears its whole buffer at every read, and the default is 128 KiB.
const READ_BUFFER_BYTES: usize = 2048;

/// Does what the script says, from the connection to its end.
///
/// # Panics
///
/// When polled outside of a host.
pub(crate) async fn run(script: Script, dial: impl Dial, recorder: Recorder) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the host, which is virtual"
    )]
    let beginning = Instant::now();
    let at = |elapsed: Duration| beginning + elapsed;
    sleep_until(at(script.start)).await;
    let Some(socket) = open(&script, &dial, &recorder).await else {
        return;
    };
    let Script { client, steps, .. } = script;
    recorder.record(Event::Connected { client });
    let talk = Talk {
        client,
        socket,
        recorder: recorder.clone(),
    };
    let steps = steps.into_iter().map(|(elapsed, step)| (at(elapsed), step));
    let ending = talk.follow(steps).await;
    recorder.record(Event::Ended { client, ending });
}

/// A connection with a handshake, after as many attempts as the script asks for.
async fn open<D: Dial>(
    script: &Script,
    dial: &D,
    recorder: &Recorder,
) -> Option<WebSocketStream<D::Io>> {
    let client = script.client;
    let url = format!("ws://server/ws/{}", asked(&script.service, client));
    for _ in 0..script.attempts() {
        recorder.record(script.connecting());
        let opening = timeout(PATIENCE, connect(&url, dial, client)).await;
        match opening.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(socket) => return Some(socket),
            Err(reason) => recorder.record(Event::Refused { client, reason }),
        }
        sleep(RETRY).await;
    }
    None
}

/// A connection of this client with a handshake that was answered with 101.
///
/// # Errors
///
/// Why there is none, in a sentence.
pub(crate) async fn connect<D: Dial>(
    url: &str,
    dial: &D,
    client: u32,
) -> Result<WebSocketStream<D::Io>, String> {
    let io = dial.dial(client).await.map_err(|error| error.to_string())?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let opened = client_async_with_config(url, io, Some(config)).await;
    let (socket, _) = opened.map_err(|error| error.to_string())?;
    Ok(socket)
}

/// A connected client.
struct Talk<Io> {
    client: u32,
    socket: WebSocketStream<Io>,
    recorder: Recorder,
}

/// Whether the socket is still of use.
enum Heard {
    End(Ending),
    More,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Talk<Io>
where
    WebSocketStream<Io>: Stream<Item = Result<Message, Error>> + Unpin,
{
    /// Takes the steps at their times and receives in between.
    async fn follow(mut self, steps: impl Iterator<Item = (Instant, Step)>) -> Ending {
        for (at, step) in steps {
            if let Heard::End(ending) = self.listen_until(at).await {
                return ending;
            }
            match step {
                // Scripts with deeds are those of raw clients.
                Step::Act(_) => {}
                Step::Abort => return Ending::Aborted,
                Step::Leave(code) => return self.leave(code).await,
                Step::Text(text) => {
                    let client = self.client;
                    let message = Message::text(text.as_str());
                    self.recorder.record(Event::Sent { client, text });
                    if self.socket.send(message).await.is_err() {
                        return Ending::Broken;
                    }
                }
            }
        }
        self.listen().await
    }

    async fn listen_until(&mut self, at: Instant) -> Heard {
        let ending = timeout_at(at, self.listen()).await;
        ending.map_or(Heard::More, Heard::End)
    }

    /// Receives until the end of the connection; dropping the future loses nothing.
    async fn listen(&mut self) -> Ending {
        let mut ending = Ending::Broken;
        loop {
            match self.socket.next().await {
                None => return ending,
                Some(Ok(message)) => {
                    if let Message::Close(_) = message {
                        ending = Ending::Closed;
                    }
                    self.hear(message);
                }
                // After the close frames, the end of the stream comes as this error or as `None`.
                Some(Err(Error::ConnectionClosed)) => return ending,
                Some(Err(_)) => return Ending::Broken,
            }
        }
    }

    fn hear(&self, message: Message) {
        let client = self.client;
        let text = match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => format!("binary {}", Digest::of(&bytes)),
            Message::Close(frame) => {
                let code = frame.map(|frame| u16::from(frame.code));
                return self.recorder.record(Event::Closed { client, code });
            }
            // Pings are answered below, and frames are not given out.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return,
        };
        self.recorder.record(Event::Received { client, text });
    }

    async fn leave(mut self, code: u16) -> Ending {
        let client = self.client;
        self.recorder.record(Event::Leaving { client, code });
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        let closing = async {
            match self.socket.close(Some(frame)).await {
                Ok(()) => self.listen().await,
                Err(_) => Ending::Broken,
            }
        };
        timeout(PATIENCE, closing).await.unwrap_or(Ending::GaveUp)
    }
}
