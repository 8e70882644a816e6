//! Requests: messages in the inbox of a service that want one answer each.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;
use serde::Serialize;

use super::message::Message;
use super::origin::{Client, Origin};
use crate::limits::{METHOD_BYTES_MAX, REQUEST_ERROR_BYTES_MAX, SERVICE_ERRORS};
use crate::metrics::RequestOutcome;
use crate::planted::{self, Bug};
use crate::sync::Mutex;

/// A request to the service of a room.
#[derive(Debug)]
pub struct Request {
    /// The sender of the request.
    pub caller: Caller,
    /// The method, which has 1 to [`METHOD_BYTES_MAX`](crate::limits::METHOD_BYTES_MAX) bytes and
    /// no dot.
    pub method: Arc<str>,
    /// The parameters as JSON text, such as `null`.
    pub payload: Message,
    /// The way back for the answer.
    pub responder: Responder,
}

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A program of a backend, by the name of its key of the API.
    Backend(Arc<str>),
    /// A client of the room.
    Client(Client),
    /// The program that embeds busline, or another service.
    Program,
}

/// The way back for the answer to a [`Request`]. A responder that is dropped without an answer
/// tells the caller of an internal error.
#[must_use = "the caller waits for an answer"]
pub struct Responder(oneshot::Sender<Answered>);

/// The answer to a request: JSON text, or the reason why there is none.
pub type Answered = Result<Box<str>, RequestError>;

/// The reason why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The method is empty, too long or has a dot, or the parameters are no JSON.
    #[error("bad request: a method has 1 to 64 bytes and no dot, and its parameters are JSON")]
    Bad,
    /// The service has dropped the request, by a crash for example, or lost it unread.
    #[error("internal server error")]
    Dropped,
    /// The inbox of the service has no space.
    #[error("too many requests: the service has as many messages as may wait")]
    Full,
    /// The service has not answered within
    /// [`request_timeout`](crate::Limits::request_timeout).
    #[error("internal server error: the service has not answered in time")]
    Late,
    /// The service reads no requests, or the room runs no service.
    #[error("not available: no service answers requests here")]
    NotServed,
    /// The service does not run, as nobody is there.
    #[error("not available: the service runs with its first client")]
    NotRunning,
    /// The service has refused the request.
    #[error("{message}")]
    Refused {
        /// The number of the error: within [`SERVICE_ERRORS`], or 100.
        code: u16,
        /// The reason in words.
        message: Box<str>,
    },
    /// The service is being started again after a crash.
    #[error("internal server error: the service is being started")]
    Starting,
    /// As many requests of this client wait for an answer as may.
    #[error("too many requests: at most {0} of a client wait for an answer")]
    TooMany(usize),
}

impl RequestError {
    /// The number of the error, by the numbers of Centrifugo's errors.
    pub fn code(&self) -> u16 {
        match self {
            Self::Dropped | Self::Late | Self::Starting => 100,
            Self::Bad => 107,
            Self::NotRunning | Self::NotServed => 108,
            Self::Full | Self::TooMany(_) => 111,
            Self::Refused { code, .. } => *code,
        }
    }
}

/// The end of a request, for counters.
pub(crate) fn outcome(answered: &Answered) -> RequestOutcome {
    match answered {
        Ok(_) => RequestOutcome::Answered,
        Err(RequestError::Dropped) => RequestOutcome::Dropped,
        Err(RequestError::Late) => RequestOutcome::Late,
        Err(RequestError::NotRunning | RequestError::NotServed | RequestError::Starting) => {
            RequestOutcome::Missing
        }
        Err(RequestError::Bad | RequestError::Refused { .. }) => RequestOutcome::Refused,
        Err(RequestError::Full | RequestError::TooMany(_)) => RequestOutcome::TooMany,
    }
}

impl Responder {
    /// Answers with a value as JSON.
    ///
    /// Returns whether the caller still waited.
    ///
    /// # Errors
    ///
    /// When the value cannot be written as JSON, such as a map whose keys are no strings; the
    /// caller is told of an internal error.
    pub fn answer<T>(self, value: &T) -> Result<bool, serde_json::Error>
    where
        T: Serialize + ?Sized,
    {
        let json = serde_json::to_string(value)?;
        Ok(self.0.send(Ok(json.into())).is_ok())
    }

    /// Refuses the request with an error of the service's own, whose message is cut after
    /// [`REQUEST_ERROR_BYTES_MAX`].
    ///
    /// Codes within [`SERVICE_ERRORS`] are for services; any other code becomes 100, an internal
    /// error. Returns whether the caller still waited.
    pub fn refuse(self, code: u16, message: &str) -> bool {
        let end = message.floor_char_boundary(REQUEST_ERROR_BYTES_MAX);
        self.send(RequestError::Refused {
            code: if SERVICE_ERRORS.contains(&code) {
                code
            } else {
                100
            },
            message: message[..end].into(),
        })
    }

    /// Whether the caller still waits.
    pub fn is_awaited(&self) -> bool {
        !self.0.is_canceled()
    }

    fn send(self, error: RequestError) -> bool {
        self.0.send(Err(error)).is_ok()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// Divides the method of a request at its last dot into the room or service that it names, if it
/// names any, and the method there. `None` for a method that is empty or too long.
pub(crate) fn divide_method(method: &str) -> Option<(Option<&str>, &str)> {
    let (room, method) = match method.rsplit_once('.') {
        Some((room, method)) => (Some(room), method),
        None => (None, method),
    };
    let is_good = !method.is_empty() && method.len() <= METHOD_BYTES_MAX;
    is_good.then_some((room, method))
}

/// Makes a request to be published into the inbox of a service, and its answer.
pub(crate) fn question(method: &str, backend: Option<Arc<str>>) -> (Arc<Question>, Answer) {
    let (sender, answer) = oneshot::channel();
    let question = Question {
        method: method.into(),
        backend,
        responder: Mutex::new(Some(Responder(sender))),
    };
    (Arc::new(question), Answer(answer))
}

/// A request in the inbox of a service, beside its payload.
///
/// Copies of a batch share it. The answer is that of a dropped responder once the last of them is
/// gone, as happens to the messages that an instance leaves unread.
pub(crate) struct Question {
    method: Arc<str>,
    /// The name of the key of a backend; `None` for other callers.
    backend: Option<Arc<str>>,
    /// `None` once the service has the request.
    responder: Mutex<Option<Responder>>,
}

impl Question {
    /// Hands the request to the service, once.
    pub(crate) fn take(&self, payload: Message) -> Option<Request> {
        let responder = self.responder.lock().take()?;
        let caller = match (&self.backend, payload.origin()) {
            (Some(name), _) => Caller::Backend(Arc::clone(name)),
            (None, Origin::Client(client)) => Caller::Client(client.clone()),
            (None, Origin::Service(_) | Origin::Unknown) => Caller::Program,
        };
        Some(Request {
            caller,
            method: Arc::clone(&self.method),
            payload,
            responder,
        })
    }

    /// Tells the caller that the service reads no requests.
    pub(crate) fn not_served(&self) {
        let responder = self.responder.lock().take();
        if let Some(responder) = responder {
            responder.send(RequestError::NotServed);
        }
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Question {}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.method).finish()
    }
}

/// The answer that a caller waits for; ready once it is there, or none is to come.
#[derive(Debug)]
pub(crate) struct Answer(oneshot::Receiver<Answered>);

impl Future for Answer {
    type Output = Answered;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let answer = self.0.poll_unpin(cx);
        if planted::is(Bug::DropNotTold) && matches!(answer, Poll::Ready(Err(_))) {
            return Poll::Pending;
        }
        let is_answer = planted::is(Bug::DropAnswered);
        let dropped = || {
            if is_answer {
                Ok("null".into())
            } else {
                Err(RequestError::Dropped)
            }
        };
        answer.map(|answer| answer.unwrap_or_else(|_| dropped()))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn asked() -> (Responder, Answer) {
        let (question, answer) = question("move", None);
        let request = question.take(Message::text("1")).expect("once");
        assert!(question.take(Message::text("1")).is_none(), "only once");
        (request.responder, answer)
    }

    fn answered(answer: Answer) -> Answered {
        answer.now_or_never().expect("there is an answer")
    }

    #[test]
    fn an_answer_is_json_and_tells_whether_it_was_awaited() {
        let (responder, answer) = asked();
        assert!(responder.is_awaited());
        assert!(responder.answer(&[1, 2]).expect("JSON"));
        assert_eq!(answered(answer).as_deref(), Ok("[1,2]"));
        let (responder, answer) = asked();
        drop(answer);
        assert!(!responder.is_awaited());
        assert!(!responder.answer(&1).expect("JSON"));
    }

    #[test]
    fn a_refusal_has_a_code_for_services_and_a_short_message() {
        let end = *SERVICE_ERRORS.end();
        for (code, shown) in [(399, 100), (400, 400), (end, end), (end + 1, 100), (0, 100)] {
            let (responder, answer) = asked();
            assert!(responder.refuse(code, "no"));
            let error = answered(answer).expect_err("refused");
            assert_eq!((error.code(), error.to_string().as_str()), (shown, "no"));
        }
        let (responder, answer) = asked();
        assert!(responder.refuse(400, &"\u{e9}".repeat(200)));
        let error = answered(answer).expect_err("refused").to_string();
        assert_eq!(error, "\u{e9}".repeat(REQUEST_ERROR_BYTES_MAX / 2));
    }

    #[test]
    fn a_dropped_responder_and_a_lost_request_are_internal_errors() {
        let (responder, answer) = asked();
        drop(responder);
        assert_eq!(answered(answer), Err(RequestError::Dropped));
        let (lost, answer) = question("move", None);
        drop(lost);
        assert_eq!(answered(answer), Err(RequestError::Dropped));
        let (unread, answer) = question("move", None);
        unread.not_served();
        assert_eq!(answered(answer), Err(RequestError::NotServed));
    }

    #[test]
    fn json_that_cannot_be_written_is_an_internal_error() {
        let (responder, answer) = asked();
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(responder.answer(&map).is_err());
        assert_eq!(answered(answer), Err(RequestError::Dropped));
    }
}
