//! Conversations with the API of Centrifugo, as they were recorded there, played and compared.
//!
//! `tests/centrifugo/` has the conversations and the setting. Texts of errors are not compared, and
//! members that are zero count as absent. Where busline answers otherwise on purpose, the file says
//! what it answers and why.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::openapi::Document;
use super::send;
use crate::process::{Process, busline};

const CONVERSATIONS: &str = include_str!("../../centrifugo/api.json");

const SETTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/centrifugo/main.toml");

/// The conversations that the file may answer otherwise, with the number of such answers.
const OTHERWISE: [(&str, usize); 9] = [
    ("api_bad_key", 1),
    ("api_disconnect_code_0", 1),
    ("api_disconnect_code_3000", 1),
    ("api_disconnect_code_999", 1),
    ("api_publish_long_channel", 1),
    ("api_subscribe", 2),
    ("api_subscribe_already_by_client", 1),
    ("api_subscribe_info_data", 1),
    ("api_subscribe_missing", 4),
];

#[tokio::test]
async fn the_recorded_conversations_are_answered_as_they_were() {
    let mut process = start().await;
    let at = operators(&mut process).await;
    let conversations: Vec<Value> = serde_json::from_str(CONVERSATIONS).expect("JSON");
    let document = document(at).await;
    let mut otherwise = BTreeMap::new();
    let mut faults = Vec::new();
    for conversation in &conversations {
        let name = conversation["name"].as_str().expect("a name");
        let mut epochs = Epochs::default();
        for call in conversation["calls"].as_array().expect("calls") {
            let expected = call.get("busline").unwrap_or(call);
            *otherwise.entry(name).or_insert(0) += usize::from(call.get("busline").is_some());
            let found = play(at, call).await;
            if let Err(fault) = describe(&document, call, &found) {
                faults.push(format!("{name}: {}: {fault}", call["body"]));
            }
            if let Err(fault) = compare(expected, found, &mut epochs) {
                faults.push(format!("{name}: {}: {fault}", call["body"]));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
    otherwise.retain(|_, count| *count > 0);
    let allowed = OTHERWISE
        .into_iter()
        .chain([("api_subscribe_recover_since", 1)]);
    assert_eq!(otherwise, allowed.collect::<BTreeMap<_, _>>());
    process.signal("TERM").await;
    assert_eq!(process.end().await.0, Some(0));
}

async fn start() -> Process {
    let mut command = busline(&["--listen=127.0.0.1:0", "--config", SETTING]);
    command.env("BUSLINE_ADMIN", "127.0.0.1:0");
    Process::start(command).await
}

async fn operators(process: &mut Process) -> SocketAddr {
    process
        .logged_address("operators' listener addresses=[")
        .await
}

async fn document(at: SocketAddr) -> Document {
    let answer = send(at, "GET", "/api/openapi.json", "X-API-Key: key\r\n", "").await;
    Document::parse(answer.body())
}

/// Compares an answer with the description of the API, where that has the path.
///
/// # Errors
///
/// The difference.
fn describe(
    document: &Document,
    call: &Value,
    (status, found): &(u64, Option<Value>),
) -> Result<(), String> {
    let path = call["path"].as_str().expect("a text");
    let path = path.split('?').next().expect("one at least");
    if !document.has(path) {
        assert_eq!(*status, 404, "{path} is not described");
        return Ok(());
    }
    document.judge(path, *status, found.as_ref())
}

/// Sends one call, and returns its status and the JSON of its answer, if it is some.
async fn play(at: SocketAddr, call: &Value) -> (u64, Option<Value>) {
    let text = |name: &str| call[name].as_str().expect("a text");
    let by_default = json!({ "X-API-Key": "key" });
    let headers = call.get("headers").unwrap_or(&by_default);
    let headers = headers.as_object().expect("headers").iter();
    let headers = headers.map(|(name, value)| {
        let value = value.as_str().expect("a text");
        format!("{name}: {value}\r\n")
    });
    let headers = headers.collect::<String>();
    let verb = call.get("verb").and_then(Value::as_str).unwrap_or("POST");
    let answer = send(at, verb, text("path"), &headers, text("body")).await;
    let json = serde_json::from_str(answer.body()).ok();
    (answer.status.into(), json)
}

/// The epochs of a conversation, each with the name that stands for it.
#[derive(Default)]
struct Epochs(BTreeMap<String, String>);

/// Compares an answer with what is expected.
///
/// # Errors
///
/// Both, where they differ.
fn compare(
    expected: &Value,
    (status, found): (u64, Option<Value>),
    epochs: &mut Epochs,
) -> Result<(), String> {
    if expected["status"] != status {
        return Err(format!("status {status} for {}", expected["status"]));
    }
    let Some(answer) = expected.get("answer") else {
        return Ok(());
    };
    let found = found.ok_or("no JSON")?;
    let (answer, found) = (plain(answer, ""), plain(&found, ""));
    if is_same(&answer, &found, epochs) {
        return Ok(());
    }
    Err(format!("{found} for {answer}"))
}

/// A value without what is not compared: texts of errors, zeros, and the figures of a server.
fn plain(value: &Value, name: &str) -> Value {
    let is_zero = |value: &Value| {
        value == &json!(0) || value == &json!(false) || value == &json!("") || value.is_null()
    };
    match value {
        Value::Object(members) => {
            let members = members.iter();
            let members = members.filter(|(name, value)| *name != "message" && !is_zero(value));
            let plain = |(name, value): (&String, &Value)| (name.clone(), plain(value, name));
            Value::Object(members.map(plain).collect())
        }
        // The recorded one has the names of the members alone.
        Value::Array(nodes) if name == "nodes" => nodes.iter().map(names).collect(),
        Value::Array(items) => items.iter().map(|item| plain(item, "")).collect(),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn names(node: &Value) -> Value {
    let members = node.as_object();
    members.map_or_else(|| node.clone(), |members| members.keys().cloned().collect())
}

/// Whether two values are the same; an epoch is the one that its name stands for so far.
fn is_same(expected: &Value, found: &Value, epochs: &mut Epochs) -> bool {
    match (expected, found) {
        (Value::String(name), Value::String(epoch)) if name.starts_with("<epoch") => {
            let known = epochs
                .0
                .entry(name.clone())
                .or_insert_with(|| epoch.clone());
            known == epoch
        }
        (Value::Object(own), Value::Object(other)) => {
            own.len() == other.len()
                && own.iter().all(|(name, value)| {
                    let other = other.get(name);
                    other.is_some_and(|other| is_same(value, other, epochs))
                })
        }
        (Value::Array(own), Value::Array(other)) => {
            let mut both = own.iter().zip(other);
            own.len() == other.len() && both.all(|(one, two)| is_same(one, two, epochs))
        }
        (own, other) => own == other,
    }
}

#[test]
fn an_answer_that_differs_is_told() {
    let expected =
        json!({ "status": 200, "answer": { "result": { "epoch": "<epoch1>", "n": 1 } } });
    let judge = |status, found: Value, epochs: &mut Epochs| {
        compare(&expected, (status, Some(found)), epochs).is_ok()
    };
    let mut epochs = Epochs::default();
    let found = |epoch: &str, n: u64| json!({ "result": { "epoch": epoch, "n": n } });
    assert!(judge(200, found("a", 1), &mut epochs));
    assert!(judge(200, found("a", 1), &mut epochs));
    assert!(!judge(200, found("b", 1), &mut epochs), "another epoch");
    assert!(!judge(200, found("a", 2), &mut epochs));
    assert!(!judge(404, found("a", 1), &mut epochs));
    assert!(!judge(
        200,
        json!({ "error": { "code": 102 } }),
        &mut epochs
    ));
}
