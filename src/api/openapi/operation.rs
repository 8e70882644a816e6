//! The operations of the document: a call of each method, and the reading of the document itself.

use serde_json::{Value, json};

use super::compound::{self, OfMethods};
use super::schemas::{Schemas, named};
use super::{example, statuses};
use crate::api::{reply, request};
use crate::caller::Method;

/// The call of a method.
pub(super) fn of(method: Method, schemas: &mut Schemas) -> Value {
    let params = params(method, schemas);
    let answer = answer(method, schemas);
    json!({
        "operationId": method.name(),
        "summary": summary(method),
        "parameters": [error_mode()],
        "requestBody": body(&params, &example::params(method)),
        "responses": statuses::of_call(&answer, &example::answer(method)),
    })
}

/// The call of a method that the body names.
pub(super) fn of_named(schemas: &mut Schemas) -> Value {
    let call = compound::call(schemas);
    let answers = Method::ALL.map(|method| named(&compound::answer_name(method)));
    let (method, params) = (Method::Publish, example::params(Method::Publish));
    let example = json!({ "method": method.name(), "params": params });
    json!({
        "operationId": "call",
        "summary": "Calls the method that the body names.",
        "parameters": [error_mode()],
        "requestBody": body(&call, &example),
        "responses": statuses::of_call(&json!({ "anyOf": answers }), &example::answer(method)),
    })
}

/// The reading of the document.
pub(super) fn of_document() -> Value {
    json!({
        "operationId": "openapi",
        "summary": "Reads this document.",
        "responses": statuses::of_document(),
    })
}

fn body(schema: &Value, example: &Value) -> Value {
    json!({
        "required": true,
        "content": { "application/json": { "schema": schema, "example": example } },
    })
}

fn error_mode() -> Value {
    json!({
        "name": "X-Centrifugo-Error-Mode",
        "in": "header",
        "description": "With `transport`, an error comes alone, with a status of its own in place \
            of 200. Another value means nothing.",
        "schema": { "type": "string" },
        "examples": { "status": { "value": "transport" } },
    })
}

/// The schema of the answers to a method, by status 200.
fn answer(method: Method, schemas: &mut Schemas) -> Value {
    // A batch has no `result` around it.
    let done = if method == Method::Batch {
        let all = Method::ALL.into_iter();
        let results = all.filter_map(|method| Some((method, result(method, schemas)?)));
        let results: OfMethods = results.collect();
        Some(compound::replies(results, schemas))
    } else {
        result(method, schemas).map(|result| compound::under("result", &result))
    };
    compound::answer(method, done, schemas)
}

/// The schema of the parameters of a method.
fn params(method: Method, schemas: &mut Schemas) -> Value {
    match method {
        Method::Batch => {
            let others = Method::ALL.into_iter();
            let others = others.filter(|method| *method != Method::Batch);
            let params: OfMethods = others
                .map(|other| (other, params(other, schemas)))
                .collect();
            compound::batch(params, schemas)
        }
        Method::Broadcast => schemas.params::<request::Broadcast>(),
        Method::Channels => schemas.params::<request::Wanted>(),
        Method::Disconnect => schemas.params::<request::Disconnect>(),
        Method::End => schemas.params::<request::End>(),
        Method::History => schemas.params::<request::History>(),
        Method::HistoryRemove | Method::Presence | Method::PresenceStats => {
            schemas.params::<request::Channel>()
        }
        Method::Info | Method::Subscribe => schemas.params::<request::Nothing>(),
        Method::Publish => schemas.params::<request::Publish>(),
        Method::Refresh => schemas.params::<request::Refresh>(),
        Method::Rpc => schemas.params::<request::Rpc>(),
        Method::Unsubscribe => schemas.params::<request::Unsubscribe>(),
    }
}

/// The schema of the result of a method; `None` for a method that has no result.
fn result(method: Method, schemas: &mut Schemas) -> Option<Value> {
    Some(match method {
        Method::Batch | Method::Subscribe => return None,
        Method::Broadcast => compound::responses(),
        Method::Channels => schemas.answer::<reply::Channels>(),
        Method::Disconnect | Method::HistoryRemove | Method::Refresh | Method::Unsubscribe => {
            schemas.answer::<reply::Done>()
        }
        Method::End | Method::Publish => schemas.answer::<reply::Published>(),
        Method::History => schemas.answer::<reply::History>(),
        Method::Info => schemas.answer::<reply::Info>(),
        Method::Presence => schemas.answer::<reply::Presence>(),
        Method::PresenceStats => schemas.answer::<reply::PresenceStats>(),
        Method::Rpc => schemas.answer::<reply::Answered>(),
    })
}

fn summary(method: Method) -> &'static str {
    match method {
        Method::Batch => "Does several commands, one after the other.",
        Method::Broadcast => "Publishes one message into several rooms.",
        Method::Channels => "Lists the rooms and services with clients.",
        Method::Disconnect => "Closes connections.",
        Method::End => "Ends the stream of a room.",
        Method::History => "Reads from the history of a room.",
        Method::HistoryRemove => "Removes the messages of a history; its position stays.",
        Method::Info => "Tells the state of the server.",
        Method::Presence => "Lists the clients of a room.",
        Method::PresenceStats => "Counts the clients and the subjects of a room.",
        Method::Publish => "Publishes a message into a room.",
        Method::Refresh => "Ends the credentials of connections.",
        Method::Rpc => "Asks a service, and waits for its answer.",
        Method::Subscribe => "Adds a client to a room: error 108, as a connection has one room.",
        Method::Unsubscribe => "Takes clients out of their room, which closes their connections.",
    }
}
