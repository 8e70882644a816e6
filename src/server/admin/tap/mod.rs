//! `/debug/tap`: the events of one client or one topic, live, as server-sent events.

use std::convert::Infallible;
use std::pin::pin;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::{Either, select};
use futures::stream::unfold;
use serde::Deserialize;

use crate::app::App;
use crate::bus::{ClientId, Tap, Tapped, Topic};
use crate::limits::TAP_KEEPALIVE;
use crate::rt::{Instant, Runtime};
use crate::server::deadline::Deadline;

/// Maximum number of taps at a time, because each may hold a window of events.
const TAPS_MAX: u64 = 16;

/// The query: the client or the topic to tap.
#[derive(Deserialize)]
pub(super) struct Wanted {
    client: Option<u64>,
    topic: Option<String>,
}

/// Streams the events of one client or one topic as server-sent events.
pub(super) async fn tap<R: Runtime>(
    State(app): State<App<R>>,
    deadline: Option<Extension<Deadline>>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let tapped = match (wanted.client, wanted.topic.map(|name| name.parse())) {
        (Some(client), None) => Tapped::Client(ClientId::new(client)),
        (None, Some(Ok(topic))) => Tapped::Topic(topic),
        (Some(_) | None, _) => {
            let text = "tap one thing: ?client=NUMBER or ?topic=NAME\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let watched = match &tapped {
        Tapped::Client(client) => app.bus().topic_of_client(*client).ok_or(client),
        Tapped::Topic(topic) => Ok(topic.clone()),
    };
    let watched = match watched {
        Ok(topic) => topic,
        Err(client) => {
            let text = format!("no client {client} is connected\n");
            return (StatusCode::NOT_FOUND, text).into_response();
        }
    };
    if app.bus().taps() >= TAPS_MAX {
        let text = "there are as many taps as there may be\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    match app.bus().tap(tapped.clone()) {
        Ok(tap) => {
            let deadline = deadline.map(|Extension(given)| given);
            let live = Live::new(app, tapped, watched, tap, deadline);
            Sse::new(unfold(live, Live::next)).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// A tap as a response; its reader may be gone or may have stopped reading.
struct Live<R: Runtime> {
    app: App<R>,
    tapped: Tapped,
    /// The tapped topic, or the topic that the tapped client alone reads.
    watched: Topic,
    tap: Tap,
    /// The deadline of the connection, if our own accept loop serves it.
    deadline: Option<Deadline>,
    /// When the next comment is due if no event happens.
    comment_at: Instant,
    is_new: bool,
}

impl<R: Runtime> Live<R> {
    fn new(
        app: App<R>,
        tapped: Tapped,
        watched: Topic,
        tap: Tap,
        deadline: Option<Deadline>,
    ) -> Self {
        let live = Self {
            comment_at: app.rt().now() + TAP_KEEPALIVE,
            app,
            tapped,
            watched,
            tap,
            deadline,
            is_new: true,
        };
        live.wait(live.comment_at);
        live
    }

    /// The next event or comment; hyper asks for it once the buffer has room.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let event = match self.happens().await {
            Some(event) => Event::default().data(event),
            None => Event::default().comment(self.comment()),
        };
        self.comment_at = self.app.rt().now() + TAP_KEEPALIVE;
        self.wait(self.comment_at);
        Some((Ok(event), self))
    }

    /// The next event; `None` if a comment is due, as at the beginning.
    async fn happens(&mut self) -> Option<String> {
        if std::mem::take(&mut self.is_new) {
            return None;
        }
        let quiet = self.app.rt().sleep_until(self.comment_at);
        match select(pin!(self.tap.next()), quiet).await {
            Either::Left((event, _)) => Some(event),
            Either::Right(((), _)) => None,
        }
    }

    /// Extends the reader's deadline to `until` plus the time for a write.
    fn wait(&self, until: Instant) {
        if let Some(deadline) = &self.deadline {
            deadline.extend(until + self.app.limits().write_timeout);
        }
    }

    /// The text of a comment: the tapped client or topic, and whether it is connected.
    fn comment(&self) -> String {
        let is_read = self.app.bus().subscribers(&self.watched) > 0;
        match &self.tapped {
            Tapped::Client(client) if is_read => format!("tapping client {client}"),
            Tapped::Client(client) => format!("client {client} is not connected any more"),
            Tapped::Topic(topic) if is_read => format!("tapping topic {topic}"),
            Tapped::Topic(topic) => {
                format!("tapping topic {topic}, which has no subscriber yet")
            }
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
