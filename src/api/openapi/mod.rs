//! The description of the API by OpenAPI 3.1, made of the types that are read and written.
//!
//! `bounds` adds what a type of Rust cannot say, `operation` tells of each method, and
//! `statuses` of the answers that come to every one.

mod bounds;
mod compound;
mod example;
mod operation;
mod schemas;
mod statuses;

use serde_json::{Value, json};

use self::schemas::Schemas;
use crate::caller::Method;
use crate::limits::ApiLimits;

/// The ways to show a key, each of which is enough.
const KEYS: [&str; 2] = ["apiKey", "authorization"];

/// The description of the API, as JSON. It has the bounds that are in force.
pub fn document(limits: &ApiLimits) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = serde_json::Map::new();
    for method in Method::ALL {
        let post = operation::of(method, &mut schemas);
        paths.insert(format!("/api/{}", method.name()), json!({ "post": post }));
    }
    let named = operation::of_named(&mut schemas);
    paths.insert("/api".to_owned(), json!({ "post": named }));
    let own = operation::of_document();
    paths.insert("/api/openapi.json".to_owned(), json!({ "get": own }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "busline",
            "summary": "The API by which a backend publishes, looks and acts.",
            "description": "The answer to a call is `result` or `error`, both with the status 200, \
                unless the header `X-Centrifugo-Error-Mode` asks for a status. Members that are \
                not described are ignored.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "security": KEYS.map(|way| json!({ (way): [] })),
        "components": {
            "schemas": schemas.finish(limits),
            "securitySchemes": {
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "authorization": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "The word `apikey`, a space, and the key.",
                },
            },
        },
    })
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
