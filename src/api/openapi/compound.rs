//! The schemas that are made of those of several methods.

use serde_json::{Map, Value, json};

use super::schemas::{Schemas, named};
use crate::api::Fault;
use crate::caller::Method;

/// The schemas of several methods, each with the method.
pub(super) type OfMethods = Vec<(Method, Value)>;

/// The parameters of a batch of commands with these parameters.
pub(super) fn batch(params: OfMethods, schemas: &mut Schemas) -> Value {
    let commands = json!({
        "description": "The commands, which are done one after the other.",
        "type": ["array", "null"],
        "items": schemas.add("Command", command(params)),
    });
    let params = json!({
        "description": "Commands that are done one after the other.",
        "type": "object",
        "properties": { "commands": commands },
    });
    schemas.add("BatchParams", params)
}

/// A command of a batch: the parameters under the name of the one method.
fn command(params: OfMethods) -> Value {
    let (mut members, mut one) = (Map::new(), Vec::new());
    members.insert(Method::Batch.name().to_owned(), json!({ "type": "null" }));
    for (method, params) in params {
        let name = method.name();
        let member = json!({ "anyOf": [params, { "type": "null" }] });
        members.insert(name.to_owned(), member);
        one.push(json!({ "required": [name], "properties": { (name): { "type": "object" } } }));
    }
    json!({
        "description": "The parameters of a method, under its name: of one method, and no batch.",
        "type": "object",
        "properties": members,
        "oneOf": one,
    })
}

/// The replies to a batch of commands with these results.
pub(super) fn replies(results: OfMethods, schemas: &mut Schemas) -> Value {
    let mut one = vec![error(schemas)];
    let results = results.into_iter();
    one.extend(results.map(|(method, result)| under(method.name(), &result)));
    let reply = schemas.add("Reply", json!({ "oneOf": one }));
    let mut replies = under("replies", &json!({ "type": "array", "items": reply }));
    replies["description"] = json!("The replies, in the order of the commands.");
    replies
}

/// The result of a broadcast: an answer for each channel.
pub(super) fn responses() -> Value {
    let answers = json!({ "type": "array", "items": named("PublishAnswer") });
    let mut responses = under("responses", &answers);
    responses["description"] = json!("The answers, in the order of the channels.");
    responses
}

/// The answer to a call of a method that may come to this; `None` where it always is an error.
pub(super) fn answer(method: Method, done: Option<Value>, schemas: &mut Schemas) -> Value {
    let error = error(schemas);
    let answer = match done {
        Some(done) => json!({ "oneOf": [done, error] }),
        None => error,
    };
    schemas.add(&answer_name(method), answer)
}

/// The name of the answer to a method.
pub(super) fn answer_name(method: Method) -> String {
    format!("{method:?}Answer")
}

/// The error of a command, under its name.
fn error(schemas: &mut Schemas) -> Value {
    let error = schemas.answer::<Fault>();
    schemas.add("ErrorAnswer", under("error", &error))
}

/// An object with such a value under this name.
pub(super) fn under(name: &str, schema: &Value) -> Value {
    json!({ "type": "object", "required": [name], "properties": { (name): schema } })
}

/// A call that names its method itself.
pub(super) fn call(schemas: &mut Schemas) -> Value {
    let names = Method::ALL.map(Method::name);
    let call = json!({
        "type": "object",
        "required": ["method"],
        "properties": {
            "method": { "type": "string", "enum": names },
            "params": {
                "description": "The parameters of the method.",
                "type": ["object", "null"],
            },
        },
    });
    schemas.add("Call", call)
}
