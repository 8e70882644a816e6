//! Requests from outside to the services of rooms.

use std::sync::Arc;
use std::task::{Context, Waker};

use futures::future::{Either, select};
use serde::de::IgnoredAny;

use super::{App, RoomHandle};
use crate::bus::{
    Answer, Answered, Batch, Delivery, Message, MessageBus, Offered, RequestError, Room, Topic,
    divide_method, outcome, question,
};
use crate::planted::{self, Bug};
use crate::rt::Runtime;

/// A request of a backend or of the embedding program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// The name of the backend's key; `None` for the embedding program.
    pub(crate) backend: Option<&'a str>,
    pub(crate) method: &'a str,
    /// The parameters as JSON text.
    pub(crate) data: &'a str,
}

impl<R: Runtime> App<R> {
    /// Puts a request to the service of a room, and waits for the answer, at most
    /// [`request_timeout`](crate::Limits::request_timeout).
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped may have been received.
    pub(crate) async fn request(&self, room: &Room, asking: Asking<'_>) -> Answered {
        let answered = match self.put(room, asking) {
            Ok(answer) => {
                let timeout = self.limits().request_timeout;
                let until = self.rt().now() + planted::twice(Bug::DeadlineDoubled, timeout);
                match select(answer, self.rt().sleep_until(until)).await {
                    Either::Left((answered, _)) => answered,
                    Either::Right(_) => Err(RequestError::Late),
                }
            }
            Err(error) => Err(error),
        };
        self.metrics().requests.add(outcome(&answered));
        answered
    }

    /// Puts a request into the inbox of a service, if it runs and has space.
    fn put(&self, room: &Room, asking: Asking<'_>) -> Result<Answer, RequestError> {
        let policies = self.policies();
        let kind = policies.service(room.kind());
        if kind.is_some_and(|kind| kind.relay.is_some()) {
            return Err(RequestError::NotServed);
        }
        let (question, answer) = question(asking.method, asking.backend.map(Arc::from));
        let batch = Batch::from(Message::text(asking.data));
        let batch = batch.delivered(Delivery::Request(question));
        let mut publisher = self.bus().publisher(&Topic::from_ws_to_service(room));
        // A request from outside waits for no space: its caller tries again.
        let mut cx = Context::from_waker(Waker::noop());
        match publisher.offer(&mut cx, batch) {
            Offered::Published(_) => Ok(answer),
            Offered::Full(_) => Err(RequestError::Full),
            Offered::NoSubscribers(_) => Err(self.not_running(room)),
        }
    }

    /// The reason why the service of a room does not run.
    fn not_running(&self, room: &Room) -> RequestError {
        let status = self.registry().room_status(room);
        match status {
            Some(status) if status.clients > 0 => RequestError::Starting,
            Some(_) | None => RequestError::NotRunning,
        }
    }
}

impl<R: Runtime> RoomHandle<R> {
    /// Puts a request with JSON as its parameters, such as `null`, to the service of the room, and
    /// returns its answer, which is JSON.
    ///
    /// Waits at most [`request_timeout`](crate::Limits::request_timeout). A method has 1 to
    /// [`METHOD_BYTES_MAX`](crate::limits::METHOD_BYTES_MAX) bytes, and no dot.
    ///
    /// # Errors
    ///
    /// When the method is none or the data are no JSON, and when the service does not run, refuses
    /// the request, or gives no answer in time.
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped may have been received.
    pub async fn request(&self, method: &str, data: &str) -> Answered {
        let is_method = matches!(divide_method(method), Some((None, _)));
        if !is_method || serde_json::from_str::<IgnoredAny>(data).is_err() {
            return Err(RequestError::Bad);
        }
        let asking = Asking {
            backend: None,
            method,
            data,
        };
        self.app().request(self.room(), asking).await
    }
}
