//! The settings that a file makes of the defaults, and the problems of a file.

use std::time::Duration;

use super::*;
use crate::limits::{Keep, LifecyclePolicy, PresencePolicy, Readers, Recovery, Tell, Window};
use crate::server::auth::Join;

#[test]
fn without_any_setting_everything_is_as_the_library_has_it() {
    let config = Sources::file("", &["ping"])
        .with_file("", "")
        .expect("valid");
    assert_eq!(config.limits(), Limits::default());
    let policy = config.policy("ping");
    assert_eq!(policy.lifecycle, LifecyclePolicy::default());
    assert_eq!(policy.slow_consumer, ServicePolicy::default().slow_consumer);
    assert_eq!(policy.window, Some(Window::default()));
    assert_eq!(policy.message_bytes, Some(Limits::default().message_bytes));
    assert_eq!(policy.inbound, Some(Limits::default().inbound));
}

/// A valid value in the file that is not the default.
fn another(name: &str, default: &str) -> String {
    match (name, default.parse::<u64>()) {
        ("drain_code", _) => "\"1012\"".to_owned(),
        ("proxies", _) => "[\"10.0.0.0/8\"]".to_owned(),
        (_, Ok(number)) => (number + 1).to_string(),
        (_, Err(_)) if default.contains("/s") => "\"3/s\"".to_owned(),
        (_, Err(_)) => "\"7s\"".to_owned(),
    }
}

#[test]
fn each_key_of_the_bounds_changes_them() {
    for key in schema::keys_of("limits") {
        let text = format!(
            "[limits]\n{} = {}\n",
            key.name,
            another(key.name, key.default)
        );
        let config = Sources::file("", &[]).with_file("", &text);
        let config = config.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_ne!(config.limits(), Limits::default(), "{text}");
    }
}

#[test]
fn a_service_has_what_its_section_says_and_for_the_rest_what_all_have() {
    let text = "linger = \"9s\"\nmessages = \"5/s\"\n\
                [service.ping]\nlinger = \"1s\"\nslow_consumer = \"latest\"\n";
    let config = Sources::file("", &["echo", "ping"]).with_file("", text);
    let config = config.expect("valid");
    let (ping, echo) = (config.policy("ping"), config.policy("echo"));
    assert_eq!(ping.lifecycle.linger, Duration::from_secs(1));
    assert_eq!(echo.lifecycle.linger, Duration::from_secs(9));
    assert_eq!(ping.inbound, echo.inbound);
    assert!(
        ping.inbound
            .is_some_and(|inbound| inbound.messages.is_some())
    );
    assert_ne!(ping.slow_consumer, echo.slow_consumer);
}

#[test]
fn published_keys_are_fetched_as_often_as_the_settings_say() {
    let url = "jwks_url = \"http://localhost/keys\"\n";
    let policy = |text: &str| {
        let text = format!("[auth]\n{text}");
        let config = Sources::file("", &[]).with_file("", &text).expect("valid");
        config.remote().map(|remote| *remote.policy())
    };
    assert_eq!(policy(""), None);
    assert_eq!(policy(url), Some(FetchPolicy::default()));
    let expected = FetchPolicy {
        refresh: Duration::from_secs(7),
        cooldown: Duration::from_secs(9),
        ..FetchPolicy::default()
    };
    let text = format!("{url}jwks_refresh = \"7s\"\njwks_cooldown = \"9s\"\n");
    assert_eq!(policy(&text), Some(expected));
}

#[test]
fn sockets_are_made_as_the_settings_say() {
    let options = |text: &str| {
        let config = Sources::file("", &[]).with_file("", text);
        config.map(|config| config.bind_options())
    };
    assert_eq!(options(""), Ok(BindOptions::default()));
    let text = "unix_mode = \"0600\"\nunix_group = \"www-data\"\n";
    let expected = BindOptions {
        unix_mode: "0600".parse().expect("a mode"),
        unix_group: Some("www-data".parse().expect("a group")),
    };
    assert_eq!(options(text), Ok(expected));
    for text in [
        "unix_mode = \"0888\"",
        "unix_mode = \"\"",
        "unix_group = \"a b\"",
    ] {
        let problems = options(text).expect_err(text).to_string();
        assert!(problems.contains("such as"), "{problems}");
    }
}

#[test]
fn a_token_must_be_what_the_settings_say() {
    let text = "join = \"authenticated\"\n[service.ping]\njoin = \"granted\"\n\
                [auth]\naudiences = [\"a\", \"b\"]\nissuers = [\"c\"]\nleeway = \"7s\"\n";
    let config = Sources::file("", &["echo", "ping"]).with_file("", text);
    let policy = config.expect("valid").jwt_policy();
    let joins = [("echo", Join::Authenticated), ("ping", Join::Granted)];
    let expected = JwtPolicy {
        anonymous: BTreeMap::new(),
        audiences: vec!["a".to_owned(), "b".to_owned()],
        issuers: vec!["c".to_owned()],
        leeway: Duration::from_secs(7),
        services: joins.map(|(name, join)| (name.to_owned(), join)).into(),
    };
    assert_eq!(policy, expected);
}

#[test]
fn a_history_may_stand_at_the_top_and_is_printed_as_it_can_be_read() {
    let text = "history = { messages = 100, bytes = \"1MiB\", ttl = \"5m\" }\n[service.ping]\n\
                recovery = \"newest\"\n";
    let sources = Sources::file("", &["echo", "ping"]);
    let config = sources.with_file("", text).expect("valid");
    let history = |name| config.policy(name).history.expect("it has one");
    assert_eq!(history("echo").retention, history("ping").retention);
    assert_eq!(history("echo").recovery, Recovery::Asked);
    assert_eq!(history("ping").recovery, Recovery::Newest);
    let printed = config.print();
    let again = sources.with_file("", &printed).expect("it prints a file");
    assert_eq!(again.policy("echo"), config.policy("echo"), "{printed}");
}

#[test]
fn the_keys_of_presence_make_its_policy() {
    let text = "[limits]\npresence_max = 7\npresence_at_once = 3\n[room.news]\n\
                presence = \"list\"\n\
                join_leave = \"asked\"\nleave_delay = \"3s\"\nread_presence = \"nobody\"\n\
                presence_info = [\"name\", \"color\"]\n";
    let sources = Sources::file("", &["echo"]);
    let config = sources.with_file("", text).expect("valid");
    let presence = PresencePolicy {
        keep: Keep::List,
        tell: Tell::Asked,
        leave_delay: Duration::from_secs(3),
        read: Readers::Nobody,
        claims: vec!["name".to_owned(), "color".to_owned()],
    };
    assert_eq!(config.policy("news").presence, presence);
    assert_eq!(config.policy("echo").presence, PresencePolicy::default());
    let limits = config.limits().presence;
    assert_eq!((limits.clients, limits.at_once), (7, 3));
}
