//! The page, the questions, and the rooms in which the answers arrive.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use busline::app::{RegisterError, RoomHandle};
use busline::limits::{RelayPolicy, Retention};
use busline::rt::{Clock, Random, Spawn, Tokio};
use busline::server::routes;
use busline::{App, ServicePolicy};
use serde_json::json;

const PAGE: &str = include_str!("page.html");

/// The time from word to word.
pub(crate) const PACE: Duration = Duration::from_millis(60);

/// The most characters of a question.
const QUESTION_MAX: usize = 500;

/// The site: `/` is the page, `POST /ask` takes a question, and `/live` has the answers.
pub(crate) fn site(rt: Tokio, pace: Duration) -> Result<Router, RegisterError> {
    // A page may come back to an answer for an hour; clients only read.
    let retention = Retention {
        messages: NonZeroUsize::new(2_000).expect("2,000 is not 0"),
        bytes: 1 << 20,
        ttl: Duration::from_secs(3_600),
        recovery_max: None,
    };
    let policy = ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention);
    let app = App::builder(rt).relay_with("answer", policy)?.build();
    Ok(Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/ask", post(ask))
        .with_state((app.clone(), pace))
        .nest("/live", routes(app)))
}

/// Begins an answer; returns the key of its room at once.
async fn ask(
    State((app, pace)): State<(App<Tokio>, Duration)>,
    question: String,
) -> Result<String, (StatusCode, String)> {
    let question: String = question.trim().chars().take(QUESTION_MAX).collect();
    if question.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "ask something\n".to_owned()));
    }
    let rt = app.rt();
    // A key that cannot be guessed: whoever knows it may read the answer.
    let key = format!("{:016x}{:016x}", rt.random(), rt.random());
    let fault = |error: busline::registry::JoinError| {
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    let room = app.room("answer", &key).map_err(fault)?;
    // The answer goes on whether a page is there or not.
    rt.spawn(Box::pin(answer(rt.clone(), room, question, pace)));
    Ok(key)
}

/// Publishes an answer word by word, and then its end.
async fn answer(rt: Tokio, room: RoomHandle<Tokio>, question: String, pace: Duration) {
    let text = invent(&question);
    let mut words = 0;
    for word in text.split_inclusive(' ') {
        rt.sleep_until(rt.now() + pace).await;
        room.publish(word);
        words += 1;
    }
    let end = json!({ "words": words, "reason": "stop" });
    if let Err(error) = room.end(&end.to_string()) {
        eprintln!("the answer {} has no end: {error}", room.room());
    }
}

/// The place of a language model.
fn invent(question: &str) -> String {
    format!(
        "You asked: {question} That is a good question, and this is no good answer, as no model is \
         behind it. It arrives word by word all the same, and each word is a message of a room of \
         its own. Reload the page: the words so far are there at once, and the others follow, each \
         of them once. Close the page, and come back when the answer is over: it is still there, \
         with its end, which tells the number of its words."
    )
}
