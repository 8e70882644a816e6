//! The answers that a call may get, by their statuses.

use serde_json::{Value, json};

use super::schemas::named;

/// The answers to a call of a method that answers so.
pub(super) fn of_call(answer: &Value, example: &Value) -> Value {
    let mut answers = of_all();
    let both = |of: Value, when: &str| {
        let both = json!({
            "application/json": { "schema": named("Error") },
            "text/plain": { "schema": { "type": "string" } },
        });
        with(of, json!({ "description": when, "content": both }))
    };
    let calls = json!({
        "200": {
            "description": "The result, or the error.",
            "content": { "application/json": { "schema": answer, "example": example } },
        },
        "400": both(json!({}), "The body is no JSON object of this method, or has not come whole; \
            where a status is asked for also error 106, 107 or 108, or a bad `pattern`."),
        "403": error("Error 103, where a status is asked for: the key may not do this."),
        "404": both(json!({}), "There is no such method; error 102, where a status is asked for."),
        "413": text("The body is longer than `api_body_bytes`."),
        "416": error("Error 112, where a status is asked for: the history has another epoch."),
        "429": both(again(), "Too many wrong keys come from this address; error 111, where a \
            status is asked for: try again."),
        "500": error("Error 100, where a status is asked for: a fault of the server."),
        "503": with(again(), text("As many calls are being served as may be, or the server goes \
            away: try again in a second.")),
    });
    answers = with(answers, calls);
    answers
}

/// The answers to a request for the document.
pub(super) fn of_document() -> Value {
    let own = json!({
        "200": {
            "description": "This document.",
            "content": { "application/json": { "schema": { "type": "object" } } },
        },
        "429": with(again(), text("Too many wrong keys come from this address.")),
    });
    with(of_all(), own)
}

fn of_all() -> Value {
    let scheme = json!({ "WWW-Authenticate": { "schema": { "const": "apikey" } } });
    let allowed = json!({
        "Allow": { "description": "The verbs of this path.", "schema": { "type": "string" } },
    });
    json!({
        "401": with(
            json!({ "headers": scheme }),
            text("The request shows no key, a wrong one, two, or one in the query."),
        ),
        "405": with(
            json!({ "headers": allowed }),
            text("Calls are POST, and this document is read by GET."),
        ),
    })
}

fn text(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "text/plain": { "schema": { "type": "string" } } },
    })
}

fn error(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": named("Error") } },
    })
}

/// The time after which the same request may be served.
fn again() -> Value {
    let seconds = json!({ "description": "In seconds.", "schema": { "type": "integer" } });
    json!({ "headers": { "Retry-After": seconds } })
}

/// One object with the members of both.
fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut one, other) {
        members.extend(more);
    }
    one
}
