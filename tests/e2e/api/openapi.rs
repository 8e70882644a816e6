//! The description of the API, held against the server that serves it.

use serde_json::{Value, json};

use super::{Backend, FEW, KEY, send};
use busline::caller::{Method, Turned};

const PATH: &str = "/api/openapi.json";

/// The document of a server.
pub(super) struct Document(Value);

impl Document {
    pub(super) fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("JSON"))
    }

    /// Whether the document has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0["paths"].get(path).is_some()
    }

    /// Compares an answer to a call with its schema.
    ///
    /// # Errors
    ///
    /// The difference.
    pub(super) fn judge(
        &self,
        path: &str,
        status: u64,
        answer: Option<&Value>,
    ) -> Result<(), String> {
        let responses = &self.0["paths"][path]["post"]["responses"];
        let response = responses.get(status.to_string());
        let content = &response.ok_or_else(|| format!("{path}: no status {status}"))?["content"];
        let Some(answer) = answer else {
            let text = content.get("text/plain");
            return text
                .map(drop)
                .ok_or_else(|| format!("{path}: a text with {status}"));
        };
        let json = content.get("application/json");
        let json = json.ok_or_else(|| format!("{path}: JSON with {status}"))?;
        let mut whole = self.0.clone();
        whole["$defs"] = json!({ "it": json["schema"] });
        whole["$ref"] = json!("#/$defs/it");
        let validator = jsonschema::draft202012::new(&whole).expect("a schema");
        let judged = validator.validate(answer);
        judged.map_err(|error| format!("{path}: {answer}: {error}"))
    }
}

impl Backend {
    async fn document(&self) -> Document {
        let key = format!("X-API-Key: {KEY}\r\n");
        let answer = send(self.operators.address(), "GET", PATH, &key, "").await;
        assert_eq!(answer.status, 200, "{}", answer.body());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        Document::parse(answer.body())
    }
}

#[tokio::test]
async fn the_document_is_for_each_key_and_for_nobody_else() {
    let backend = Backend::start().await;
    let at = backend.operators.address();
    let key = |key: &str| format!("X-API-Key: {key}\r\n");
    for (verb, headers, status, allow) in [
        ("GET", key(KEY), 200, None),
        ("GET", key(FEW), 200, None),
        ("GET", format!("Authorization: apikey {KEY}\r\n"), 200, None),
        ("HEAD", key(KEY), 200, None),
        ("GET", String::new(), 401, None),
        ("GET", key(&KEY[1..]), 401, None),
        ("POST", key(KEY), 405, Some("GET, HEAD")),
        ("DELETE", key(KEY), 405, Some("GET, HEAD")),
        ("DELETE", String::new(), 401, None),
    ] {
        let answer = send(at, verb, PATH, &headers, "").await;
        assert_eq!(answer.status, status, "{verb} {headers}");
        assert_eq!(answer.header("allow"), allow, "{verb}");
        assert_eq!(answer.body().is_empty(), verb == "HEAD", "{verb}");
    }
    let in_query = format!("{PATH}?api_key={KEY}");
    let answer = send(at, "GET", &in_query, &key(KEY), "").await;
    assert_eq!(answer.status, 401);
    let counts = backend.server.app().caller_counts();
    assert_eq!(counts.turned_for(Turned::Unauthorized), 4);
    assert_eq!(counts.turned_for(Turned::UnknownMethod), 2);
}

#[tokio::test]
async fn each_example_of_the_document_works_as_it_says() {
    let backend = Backend::start().await;
    let document = backend.document().await;
    for method in Method::ALL {
        let path = format!("/api/{}", method.name());
        let call = &document.0["paths"][&path]["post"];
        let example = &call["requestBody"]["content"]["application/json"]["example"];
        let answer = backend.call(method.name(), example.clone()).await;
        assert_eq!(document.judge(&path, 200, Some(&answer)), Ok(()));
        let is_error = answer.get("error").is_some();
        let is_refused = matches!(method, Method::Rpc | Method::Subscribe);
        assert_eq!(is_error, is_refused, "{method:?}: {answer}");
    }
}

#[test]
fn an_answer_that_is_not_described_is_told() {
    let document = Document(json!({ "paths": { "/a": { "post": { "responses": {
        "200": { "content": { "application/json": { "schema": { "type": "object" } } } },
        "400": { "content": { "text/plain": {} } },
    } } } } }));
    let judge = |status, answer: Option<Value>| document.judge("/a", status, answer.as_ref());
    assert_eq!(judge(200, Some(json!({}))), Ok(()));
    assert_eq!(judge(400, None), Ok(()));
    for (status, answer) in [
        (200, Some(json!([]))),
        (200, None),
        (400, Some(json!({}))),
        (404, None),
    ] {
        assert!(
            judge(status, answer.clone()).is_err(),
            "{status} {answer:?}"
        );
    }
}
