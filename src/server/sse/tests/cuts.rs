//! Streams whose connection is reset after any number of bytes: a reader that comes back as an
//! `EventSource` does has each message once.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Host, host};
use crate::limits::Limits;
use crate::rt::Clock;

/// The messages of a run; some are there before the reader comes, and one more comes while each of
/// its connections stands.
const BEFORE: usize = 2;
const ALL: usize = 5;

/// The bytes of a response that is read to its last message; each cut is at one of them.
const BYTES: usize = 700;

/// A reader of events that remembers what an `EventSource` does.
#[derive(Default)]
struct Reader {
    last_id: Option<String>,
    messages: Vec<String>,
}

/// The decoded body of a chunked response, as far as it has come.
fn body(response: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(response);
    let Some((head, mut rest)) = text.split_once("\r\n\r\n") else {
        return Vec::new();
    };
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = Vec::new();
    while let Some((size, data)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        body.extend_from_slice(&data.as_bytes()[..size.min(data.len())]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    body
}

impl Reader {
    /// Takes the events that have come whole; the rest of a stream that is cut counts for nothing.
    fn take(&mut self, response: &[u8]) {
        let body = String::from_utf8(body(response)).expect("events are text");
        let Some((whole, _cut)) = body.rsplit_once("\n\n") else {
            return;
        };
        for event in whole.split("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.last_id = Some(id.to_owned());
            }
            if let (Some(data), None) = (field("data: "), field("event: ")) {
                self.messages.push(data.to_owned());
            }
        }
    }

    /// Reads so many bytes of a new stream, or until a message comes, and resets the connection.
    async fn read(&mut self, host: &Host, most: usize, last: &str) {
        let mut stream = host.dial.connect(64);
        let (path, from) = match &self.last_id {
            Some(id) => ("/sse/news/a", format!("Last-Event-ID: {id}\r\n")),
            None => ("/sse/news/a?since=start", String::new()),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{from}\r\n");
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("the server reads");
        let mut response = Vec::new();
        let needle = format!("data: {last}\n\n");
        let read = async {
            while response.len() < most {
                response.push(stream.read_u8().await.expect("the stream goes on"));
                if response.ends_with(needle.as_bytes()) {
                    break;
                }
            }
        };
        // A stream says nothing more for a while once it has said all.
        let second = host.app.rt().now() + Duration::from_secs(1);
        let pause = host.app.rt().sleep_until(second);
        futures::future::select(Box::pin(read), pause).await;
        drop(stream);
        self.take(&response);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_at_any_byte_goes_on_where_it_was() {
    let name = |number: usize| format!("m{number}");
    for cut in 0..BYTES {
        let host = host(Limits::default());
        let mut reader = Reader::default();
        let mut published = 0;
        let mut publish = |until: usize| {
            while published < until {
                published += 1;
                host.publish(&name(published));
            }
        };
        publish(BEFORE);
        reader.read(&host, cut, "none").await;
        publish(BEFORE + 1);
        reader.read(&host, cut, "none").await;
        publish(ALL);
        reader.read(&host, usize::MAX, &name(ALL)).await;
        let all: Vec<_> = (1..=ALL).map(name).collect();
        assert_eq!(reader.messages, all, "cut after {cut} bytes");
        host.until_left().await;
    }
}
