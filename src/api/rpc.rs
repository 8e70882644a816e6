//! Requests of a backend to the services of rooms.

use serde_json::value::RawValue;

use super::reply::Answered;
use super::request::Rpc;
use super::{Answer, Caller, Fault};
use crate::app::Asking;
use crate::bus::{RequestError, divide_method};
use crate::caller::Place;
use crate::rt::Runtime;

impl<R: Runtime> Caller<'_, R> {
    /// Asks the service that stands before the last dot of the method, `chat:42` of `chat:42.move`
    /// or `ping` of `ping.move`, and waits for its answer.
    pub(super) async fn rpc(&self, rpc: &Rpc) -> Result<Answer, Fault> {
        let unknown = || Fault::unknown_method("write <service>.<method> or <kind>:<key>.<method>");
        let (channel, method) = divide_method(&rpc.method).ok_or_else(unknown)?;
        let channel = channel.filter(|channel| !channel.is_empty());
        let channel = channel.ok_or_else(unknown)?;
        let room = match channel.contains(':') {
            true => self.room(channel),
            // A service has no key; a room of the kind without a prefix is not meant, nor is the
            // room of a kind with the empty key.
            false => {
                let room = self.room(&format!("{channel}:"));
                room.and_then(|room| room.is_service().then_some(room).ok_or_else(unknown))
            }
        };
        let room = room.map_err(|fault| match fault.code {
            102 | 107 => unknown(),
            _ => fault,
        })?;
        let asking = Asking {
            backend: Some(self.rights.name()),
            method,
            data: rpc.params.as_deref().map_or("null", RawValue::get),
        };
        let limits = self.app.limits().api;
        let place = self.app.callers().ask(&limits).ok_or(Fault::RPCS)?;
        let answered = self.app.request(&room, asking).await;
        drop::<Place>(place);
        let data = answered.map_err(Fault::from)?;
        let data = RawValue::from_string(data.into()).expect("a responder writes JSON");
        Ok(Answer::Answered(Answered { data }))
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string().into(),
        }
    }
}
