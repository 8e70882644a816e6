//! The answer to a client that may not join: an HTTP status, or for a client of `busline.v1.json` a
//! notice and a close frame, which a page in a browser can read.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::admission::authorize::Denied;
use crate::app::App;
use crate::metrics::RefuseReason;
use crate::registry::{JoinError, Refusal as ServiceRefusal};
use crate::rt::Runtime;
use crate::server::epilogue::Epilogue;
use crate::server::handshake::Handshake;
use crate::server::rewound_stream::RewoundStream;
use crate::server::wish::BadWish;
use crate::session::{AdmitError, Plain, Refused, Subprotocol};
use crate::wire::CloseCode;

/// The time after which a client may try again that found no room.
const SECOND: Duration = Duration::from_secs(1);

/// A client that is refused, and why.
pub(super) struct Refusal {
    status: StatusCode,
    /// The reason in words, of one line.
    reason: String,
    /// The time after which the client may try again; `None` where another try is useless.
    retry: Option<Duration>,
    /// The answer to a client of events.
    to_events: ToEvents,
    /// The close code for a client of `busline.v1.json`; `None` for a reason that lies in the
    /// server and not in the client.
    code: Option<CloseCode>,
}

/// The answer to a client of events. An `EventSource` never comes back after a status of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToEvents {
    /// A stream that is over at once, after which an `EventSource` comes back: the next server may
    /// take it.
    Later,
    /// The status of the refusal.
    Status,
    /// 204, which stops an `EventSource` that would come back for ever: with its expired token, or
    /// to a stream that has ended.
    Stop,
}

impl Refusal {
    /// The refusal of a client that a service or room does not take.
    pub(super) fn of_admission<R: Runtime>(app: &App<R>, error: &AdmitError) -> Self {
        match error {
            AdmitError::Join(JoinError::Unknown) => {
                let paths: Vec<_> = app.registry().paths("<key>").collect();
                let paths = paths.join(", ");
                Self::not_there(format!("there is no such service; there are: {paths}"))
            }
            AdmitError::Join(error @ JoinError::BadKey(_)) => {
                Self::not_there(format!("{error}; {KEYS}"))
            }
            AdmitError::Join(error @ (JoinError::KeyMissing(_) | JoinError::WithoutRooms(_))) => {
                Self::not_there(error.to_string())
            }
            AdmitError::Ended => Self {
                status: StatusCode::NO_CONTENT,
                reason: error.to_string(),
                retry: None,
                to_events: ToEvents::Stop,
                code: Some(CloseCode::NORMAL),
            },
            AdmitError::HistoryForbidden => Self {
                status: StatusCode::FORBIDDEN,
                reason: error.to_string(),
                retry: None,
                to_events: ToEvents::Status,
                code: Some(CloseCode::FORBIDDEN),
            },
            AdmitError::Join(JoinError::Refused(refusal)) => Self::of_service(refusal),
            AdmitError::Join(JoinError::RoomsFull(_))
            | AdmitError::Subscribe(_)
            | AdmitError::TooManySessions { .. }
            | AdmitError::TooManyOfAddress { .. }
            | AdmitError::TooManyOfSubject { .. } => Self::full(error.to_string()),
        }
    }

    fn of_service(refusal: &ServiceRefusal) -> Self {
        match refusal {
            ServiceRefusal::Draining => Self {
                to_events: ToEvents::Later,
                ..Self::unavailable("the server is going away", SECOND)
            },
            ServiceRefusal::Failed { retry_after } => {
                let reason = "the service failed and takes no clients for a while";
                Self::unavailable(reason, *retry_after)
            }
            ServiceRefusal::Full { max } => Self::full(format!("all {max} places here are taken")),
        }
    }

    /// The refusal of a request with a fault.
    pub(super) fn of_wish(error: BadWish) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: error.to_string(),
            retry: None,
            to_events: ToEvents::Status,
            code: Some(CloseCode::BAD_REQUEST),
        }
    }

    /// The refusal of a client that may not join, which is counted here.
    pub(super) fn of_client<R: Runtime>(app: &App<R>, denied: Denied) -> Self {
        let (counted, status, code) = match denied {
            Denied::Forbidden => (
                RefuseReason::Forbidden,
                StatusCode::FORBIDDEN,
                CloseCode::FORBIDDEN,
            ),
            Denied::Expired | Denied::Unauthorized => (
                RefuseReason::Unauthorized,
                StatusCode::UNAUTHORIZED,
                CloseCode::UNAUTHORIZED,
            ),
            Denied::Unavailable { retry_after } => {
                app.metrics().refused.add(RefuseReason::Undecided);
                return Self::unavailable(&denied.to_string(), retry_after);
            }
        };
        app.metrics().refused.add(counted);
        Self {
            status,
            reason: denied.to_string(),
            retry: None,
            to_events: match denied {
                Denied::Expired => ToEvents::Stop,
                Denied::Forbidden | Denied::Unauthorized | Denied::Unavailable { .. } => {
                    ToEvents::Status
                }
            },
            code: Some(code),
        }
    }

    /// The refusal of a client that shows its token in the query where none may be; counted here.
    pub(super) fn of_query_token<R: Runtime>(app: &App<R>) -> Self {
        app.metrics().refused.add(RefuseReason::Unauthorized);
        Self {
            status: StatusCode::UNAUTHORIZED,
            reason: QUERY_TOKEN.to_owned(),
            retry: None,
            to_events: ToEvents::Status,
            code: Some(CloseCode::UNAUTHORIZED),
        }
    }

    fn not_there(reason: String) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            reason,
            retry: None,
            to_events: ToEvents::Status,
            code: Some(CloseCode::NOT_FOUND),
        }
    }

    fn full(reason: String) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason,
            retry: Some(SECOND),
            to_events: ToEvents::Status,
            code: Some(CloseCode::TOO_MANY),
        }
    }

    fn unavailable(reason: &str, retry_after: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
            retry: Some(retry_after),
            to_events: ToEvents::Status,
            code: None,
        }
    }

    /// Answers a request for events; `over` is the stream that is over at once, for a client that
    /// comes back after such a one.
    pub(super) fn answer_events(self, over: Option<Response>) -> Response {
        match (self.to_events, over) {
            (ToEvents::Later, Some(over)) => over,
            (ToEvents::Stop, _) => StatusCode::NO_CONTENT.into_response(),
            (ToEvents::Later, None) | (ToEvents::Status, _) => self.into_response(),
        }
    }

    /// Answers the request: by name if its valid handshake asks for `busline.v1.json`, else by a
    /// status.
    pub(super) fn answer<R: Runtime>(
        self,
        app: &App<R>,
        handshake: Option<Handshake>,
        mut request: Request,
    ) -> Response {
        let epilogue = request.extensions().get::<Epilogue>().cloned();
        let is_json = |handshake: &Handshake| handshake.subprotocol() == Subprotocol::Json;
        // Without an epilogue the listener is an embedder's, and no bound would hold for the
        // upgraded connection.
        match (self.code, handshake.filter(is_json), epilogue) {
            (Some(code), Some(handshake), Some(epilogue)) => {
                let refused = Refused {
                    code,
                    reason: self.reason,
                    retry: self.retry,
                };
                let upgrade = hyper::upgrade::on(&mut request);
                epilogue.leave(tell(app.clone(), upgrade, refused).boxed());
                handshake.without_extensions().into_response()
            }
            (None, _, _) | (_, None, _) | (_, _, None) => self.into_response(),
        }
    }
}

/// Waits for the upgrade, and tells the client why it is refused.
async fn tell<R: Runtime>(app: App<R>, upgrade: OnUpgrade, refused: Refused) {
    // An upgrade fails with its connection, and then there is no client to tell.
    if let Ok(upgraded) = upgrade.await {
        let stream = RewoundStream::new(TokioIo::new(upgraded), &[]);
        refused.tell(app, Plain(stream)).await;
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.reason)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(retry) = self.retry {
            // Whole seconds, rounded up, at least one.
            let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

/// The reason of a refused token in the query.
const QUERY_TOKEN: &str = "no token may be in the query here, as `auth.query_token` is false: \
                           show it in `Authorization: Bearer`, or to /ws as a subprotocol";

/// The rule for keys, for a client that broke it.
const KEYS: &str = "a key is one part of the path, 1 to 255 characters from space to `~` \
                    (255 together with the name before it and a `:`), percent-encoded: \
                    `a/b` is `a%2Fb`";
