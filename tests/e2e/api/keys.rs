//! The keys of the API: who may call, where, and what the log says of it.

use super::{Backend, FEW, KEY, parts, post, send};
use crate::process::{Process, busline};
use crate::raw::Raw;
use crate::server::Server;
use crate::settings::Scratch;
use busline::RefuseReason;
use busline::caller::{Key, Keys, Outcome, Rights, Turned};

const PUBLISH: &str = r#"{"channel":"news:1","data":1}"#;

#[tokio::test]
async fn only_a_key_in_a_header_lets_a_caller_in() {
    let backend = Backend::start().await;
    let (at, twice) = (backend.operators.address(), KEY.repeat(2));
    let path = "/api/publish";
    let in_query = format!("{path}?api_key={KEY}");
    let good = format!("X-API-Key: {KEY}\r\n");
    for (path, headers, status) in [
        (path, good.clone(), 200),
        (path, format!("Authorization: apikey {KEY}\r\n"), 200),
        (path, format!("Authorization: ApiKey {KEY}\r\n"), 200),
        (path, format!("Authorization: Bearer {KEY}\r\n"), 401),
        (path, format!("X-API-Key: {}\r\n", &KEY[1..]), 401),
        (path, format!("X-API-Key: {twice}\r\n"), 401),
        (path, "X-API-Key: \r\n".to_owned(), 401),
        (path, format!("{good}X-API-Key: {FEW}\r\n"), 401),
        (path, String::new(), 401),
        (in_query.as_str(), String::new(), 401),
        (in_query.as_str(), good.clone(), 401),
        ("/api/nonsense", String::new(), 401),
        ("/api/nonsense", good.clone(), 404),
        ("/api", String::new(), 401),
    ] {
        let answer = post(at, path, &headers, PUBLISH).await;
        assert_eq!(answer.status, status, "{path} {headers}: {}", answer.body());
        assert!(!answer.body().contains(&KEY[1..]), "{}", answer.body());
    }
    for verb in ["GET", "PUT", "DELETE"] {
        let answer = send(at, verb, path, &good, PUBLISH).await;
        assert_eq!(answer.status, 405, "{verb}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let counts = backend.server.app().caller_counts();
    assert_eq!(counts.of(busline::caller::Method::Publish, Outcome::Ok), 3);
    assert_eq!(counts.turned_for(Turned::Unauthorized), 10);
    assert_eq!(counts.turned_for(Turned::NotPost), 3);
    assert_eq!(counts.turned_for(Turned::UnknownMethod), 1);
}

#[tokio::test]
async fn the_key_with_few_rights_has_those_alone() {
    let backend = Backend::start().await;
    let body = |channel: &str| format!(r#"{{"channel":"{channel}","data":1}}"#);
    for (method, body, code) in [
        ("publish", body("news:1"), None),
        ("publish", body("plain:1"), Some(103)),
        ("publish", body("lobby"), Some(103)),
        ("history", body("news:1"), Some(103)),
        ("disconnect", r#"{"user":"ann"}"#.to_owned(), Some(103)),
        ("info", "{}".to_owned(), Some(103)),
    ] {
        let answer = backend.answer(method, FEW, &body).await;
        assert_eq!(answer.status, 200, "{method}");
        let answer: serde_json::Value = serde_json::from_str(answer.body()).expect("JSON");
        assert_eq!(answer["error"]["code"].as_u64(), code, "{method} {body}");
    }
    let batch = r#"{"commands":[{"info":{}},{"publish":{"channel":"news:1","data":1}}]}"#;
    let answer = backend.answer("batch", FEW, batch).await;
    let answer: serde_json::Value = serde_json::from_str(answer.body()).expect("JSON");
    assert_eq!(answer["replies"][0]["error"]["code"], 103);
    assert_eq!(answer["replies"][1]["publish"]["offset"], 2);
}

#[tokio::test]
async fn a_fault_has_a_status_for_those_that_want_one() {
    let backend = Backend::start().await;
    let headers = format!("X-API-Key: {KEY}\r\nX-Centrifugo-Error-Mode: transport\r\n");
    for (method, body, status, code) in [
        ("publish", r#"{"channel":"nope:1","data":1}"#, 404, 102),
        ("publish", r#"{"data":1}"#, 400, 107),
        ("history", r#"{"channel":"plain:1"}"#, 400, 108),
        ("channels", r#"{"pattern":"["}"#, 400, 100),
    ] {
        let path = format!("/api/{method}");
        let answer = post(backend.operators.address(), &path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {body}");
        let fault: serde_json::Value = serde_json::from_str(answer.body()).expect("JSON");
        assert_eq!(fault["code"], code, "{fault}");
        assert!(fault["message"].is_string() && fault.get("error").is_none());
    }
    let answer = post(
        backend.operators.address(),
        "/api/publish",
        &headers,
        PUBLISH,
    )
    .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body().starts_with("{\"result\":"),
        "{}",
        answer.body()
    );
}

#[tokio::test]
async fn clients_reach_the_api_only_where_it_is_public() {
    let key = format!("X-API-Key: {KEY}\r\n");
    let backend = Backend::start().await;
    let answer = post(backend.server.address(), "/api/publish", &key, PUBLISH).await;
    assert_eq!(answer.status, 404);
    let public = Server::start(|app| parts(app.api_public(true))).await;
    let answer = post(public.address(), "/api/publish", &key, PUBLISH).await;
    assert_eq!(answer.status, 200, "{}", answer.body());
    let answer = post(public.address(), "/api/publish", "", PUBLISH).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_listener_of_its_own_has_the_api_and_nothing_else() {
    let settings = format!("[room.news]\n[[api.keys]]\nname = \"a\"\nkey = \"{KEY}\"\n");
    let file = Scratch::new("listen.toml", &settings);
    let flags = ["--listen=127.0.0.1:0", "--api-listen=127.0.0.1:0"];
    let command = busline(&[flags[0], flags[1], "--config", file.path()]);
    let mut process = Process::start(command).await;
    let at = process
        .logged_address("listener of the API addresses=[")
        .await;
    let key = format!("X-API-Key: {KEY}\r\n");
    for (path, key, status) in [
        ("/api/publish", key.as_str(), 200),
        ("/api/publish", "", 401),
        ("/metrics", key.as_str(), 404),
        ("/debug/services", key.as_str(), 404),
    ] {
        assert_eq!(post(at, path, key, PUBLISH).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn without_keys_every_request_is_401() {
    let parts = |app| Ok(parts(app)?.api_public(true).api_keys(Keys::default()));
    let server = Server::start(parts).await;
    for headers in [String::new(), format!("X-API-Key: {KEY}\r\n")] {
        for path in ["/api", "/api/", "/api/info", "/api/nonsense", "/api/info/x"] {
            let answer = post(server.address(), path, &headers, "{}").await;
            assert_eq!(answer.status, 401, "{path} {headers}");
        }
    }
}

#[tokio::test]
async fn a_caller_with_a_key_may_name_any_host_and_another_may_not() {
    let server = Server::start(|app| parts(app.api_public(true))).await;
    let request = |key: &str| {
        format!(
            "POST /api/info HTTP/1.1\r\nHost: busline:8081\r\nX-API-Key: {key}\r\n\
             Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    };
    let answer = crate::http::ask(&server, &request(KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.body());
    // A wrong key is told to be one, and counts as such.
    let answer = crate::http::ask(&server, &request("wrong")).await;
    assert_eq!(answer.status, 401);
    let without = request("").replace("X-API-Key: \r\n", "");
    assert_eq!(crate::http::ask(&server, &without).await.status, 421);
    let elsewhere = format!("GET / HTTP/1.1\r\nHost: busline\r\nX-API-Key: {KEY}\r\n\r\n");
    assert_eq!(crate::http::ask(&server, &elsewhere).await.status, 421);
    let refused = server.app().counts().sessions;
    assert_eq!(refused.refused_for(RefuseReason::Host), 2);
}

#[tokio::test]
async fn keys_are_rotated_while_the_server_runs() {
    let backend = Backend::start().await;
    let newer = KEY.replace("0123", "3210");
    let app = backend.server.app();
    let mut policies = (*app.policies()).clone();
    let key = Key::new(&newer, Rights::all("newer")).expect("long enough");
    policies.api_keys = Keys::new([key]);
    app.replace_policies(policies);
    assert_eq!(backend.answer("publish", KEY, PUBLISH).await.status, 401);
    assert_eq!(backend.answer("publish", &newer, PUBLISH).await.status, 200);
}

/// Gives the server one key alone, for all methods and for the kind `news`.
fn of_news(backend: &Backend) -> String {
    let newer = KEY.replace("0123", "3210");
    let rights = Rights::all("newer").only_kinds(["news".parse().expect("a name")]);
    let app = backend.server.app();
    let mut policies = (*app.policies()).clone();
    policies.api_keys = Keys::new([Key::new(&newer, rights).expect("long enough")]);
    app.replace_policies(policies);
    newer
}

#[tokio::test]
async fn a_key_closes_the_clients_of_its_kinds_alone() {
    for (method, rest) in [
        ("disconnect", ""),
        ("unsubscribe", ""),
        ("refresh", r#","expired":true"#),
    ] {
        let backend = Backend::start().await;
        let mut news = backend.join("news/1", "ann").await;
        let mut main = backend.join("main/1", "ann").await;
        let newer = of_news(&backend);
        let params = format!(r#"{{"user":"ann"{rest}}}"#);
        let answer = backend.answer(method, &newer, &params).await;
        assert_eq!(answer.body(), r#"{"result":{}}"#, "{method}");
        news.closed().await;
        // The other one is still there, and is sent what comes.
        let app = backend.server.app();
        app.room("main", "1")
            .expect("a room")
            .publish("still there");
        loop {
            let (_, payload) = main.frame().await;
            if String::from_utf8_lossy(&payload).contains("still there") {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_key_lists_the_rooms_of_its_kinds_alone() {
    let backend = Backend::start().await;
    let _news = Raw::join(&backend.server, "news/1").await;
    let _ping = Raw::join(&backend.server, "ping").await;
    let newer = of_news(&backend);
    let answer = backend.answer("channels", &newer, "{}").await;
    let listed = r#"{"result":{"channels":{"news:1":{"num_clients":1}}}}"#;
    assert_eq!(answer.body(), listed);
}

#[tokio::test]
async fn the_log_names_the_key_and_never_shows_it_and_a_reload_rotates_it() {
    let settings = |key: &str| {
        format!(
            "log = \"info,busline::server=debug\"\n[room.news]\n[auth]\n\
             allow_weak_secret = true\n[[api.keys]]\nname = \"backend-a\"\nkey = \"{key}\"\n"
        )
    };
    let file = Scratch::new("api.toml", &settings("s3cret"));
    let mut command = busline(&["--listen=127.0.0.1:0", "--config", file.path()]);
    command.env("BUSLINE_ADMIN", "127.0.0.1:0");
    let mut process = Process::start(command).await;
    let warning = process.logged("can be guessed").await;
    assert!(warning.contains("WARN") && warning.contains("api.keys.backend-a"));
    let operators = process
        .logged_address("operators' listener addresses=[")
        .await;
    let publish = async |key: &str| {
        let key = format!("X-API-Key: {key}\r\n");
        post(operators, "/api/publish", &key, PUBLISH).await.status
    };
    assert_eq!(publish("s3cret").await, 200);
    let line = process.logged("a call").await;
    assert!(
        line.contains("backend-a") && line.contains("publish"),
        "{line}"
    );
    file.write(&settings("s3cret-2"));
    process.signal("HUP").await;
    let line = process.logged("settings reloaded").await;
    assert!(
        line.contains("api.keys.backend-a.key (not shown)"),
        "{line}"
    );
    assert_eq!(publish("s3cret").await, 401);
    assert_eq!(publish("s3cret-2").await, 200);
    process.signal("TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("s3cret"), "{log}");
}
