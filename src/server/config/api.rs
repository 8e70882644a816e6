//! The settings of the API: its keys with their rights, and the lengths of secrets.

use std::collections::BTreeMap;

use super::Config;
use super::admin::Admin;
use super::key::{Keys as _, Reader};
use super::problem::{Problem, Problems};
use super::schema::{
    API_KEYS, ApiKeyKeys, AuthKeys, ChannelKeys, LimitKeys, RoomKeys, ServiceKeys,
};
use super::source::{Layer, Place};
use crate::caller::{Key, Keys, Rights, SECRET_BYTES_MIN};
use crate::limits::ApiLimits;

/// Reads the keys; errors are added to the problems.
pub(super) fn keys(layer: &Layer, may_be_weak: bool, problems: &mut Vec<Problem>) -> Keys {
    let mut keys: Vec<Key> = Vec::new();
    let sections: Vec<_> = sections(layer).collect();
    for (place, name) in sections {
        let section = &place.section;
        let own = ApiKeyKeys::read(&mut Reader::new(layer, section, problems));
        let mut rights = Rights::all(name);
        // An empty list is a key without rights, and not one with all.
        let is_set = |key: &'static str| layer.get(&Place::new(section, key)).is_some();
        if is_set("methods") {
            rights = rights.only_methods(own.methods.iter().map(|method| method.0));
        }
        if is_set("kinds") {
            rights = rights.only_kinds(own.kinds.iter().map(|kind| kind.0.clone()));
        }
        let key = match &own.key {
            Some(key) if may_be_weak => Key::weak(&key.0, rights).map_err(|e| e.to_string()),
            Some(key) => Key::new(&key.0, rights).map_err(|e| e.to_string()),
            None => Err("`key` is missing".to_owned()),
        };
        let is_known = |shown: &str| Keys::new(keys.clone()).find(shown.as_bytes()).is_some();
        let key = match &own.key {
            Some(secret) if is_known(&secret.0) => Err("another name has this key".to_owned()),
            Some(_) | None => key,
        };
        match (key, layer.get(place)) {
            (Ok(key), _) => keys.push(key),
            (Err(error), Some(given)) => problems.push(Problem::ApiKey {
                at: given.source.clone(),
                error: format!("`{name}`: {error}"),
            }),
            (Err(_), None) => {}
        }
    }
    Keys::new(keys)
}

/// The places of the secrets of keys, each with the name of its key.
fn sections(layer: &Layer) -> impl Iterator<Item = (&Place, &str)> {
    let secrets = layer.iter().filter(|(place, _)| place.key == "key");
    secrets.filter_map(|(place, _)| Some((place, place.section.strip_prefix(API_KEYS)?)))
}

/// Checks that the secret of tokens is long enough, unless a short one is allowed.
pub(super) fn check_secret(layer: &Layer, auth: &AuthKeys, problems: &mut Vec<Problem>) {
    let secret = auth.secret.as_ref();
    let is_weak = secret.is_some_and(|secret| secret.0.len() < SECRET_BYTES_MIN);
    let place = Place::new("auth", "secret");
    if let Some(given) = layer
        .get(&place)
        .filter(|_| is_weak && !auth.allow_weak_secret)
    {
        problems.push(Problem::Value {
            at: given.source.clone(),
            place,
            allowed: format!("a text of at least {SECRET_BYTES_MIN} bytes"),
            error: String::new(),
        });
    }
}

/// Checks that the kind of channels without one is a kind of rooms.
pub(super) fn check_default(
    channels: &ChannelKeys,
    rooms: &BTreeMap<String, (RoomKeys, ServiceKeys)>,
    problems: &mut Vec<Problem>,
) {
    let default = channels.default.as_ref();
    if default.is_some_and(|kind| !rooms.contains_key(kind)) {
        let fault = "`default` names no kind of rooms: there is no [room.NAME] of this name";
        problems.push(Problem::Policy {
            section: "channels".to_owned(),
            fault,
        });
    }
}

/// The bounds of the API.
pub(super) fn limits(keys: &LimitKeys) -> ApiLimits {
    ApiLimits {
        body_bytes: keys.api_body_bytes.size(),
        batch: keys.api_batch.size(),
        broadcast: keys.api_broadcast.size(),
        in_flight: keys.api_in_flight.size(),
        rpcs: keys.api_rpcs.size(),
        connections: keys.api_connections.size(),
        idle_timeout: keys.api_idle_timeout.get(),
        idempotency_keys: keys.api_idempotency_keys.size(),
        idempotency_ttl: keys.api_idempotency_ttl.get(),
        versions: keys.api_versions.size(),
        wrong_keys: keys.api_wrong_keys,
    }
}

impl Config {
    /// The keys of callers.
    pub fn api_keys(&self) -> Keys {
        self.api_keys.clone()
    }

    /// The address of the listener with the API alone.
    pub fn api_listen(&self) -> &Admin {
        &self.api.listen.0
    }

    /// Whether the addresses for clients serve the API, too.
    pub fn api_public(&self) -> bool {
        self.api.public
    }

    /// The kind of rooms that callers name without one.
    pub fn default_kind(&self) -> Option<&str> {
        self.channels.default.as_deref()
    }

    /// The settings whose secret is short enough to be guessed.
    pub fn weak_secrets(&self) -> impl Iterator<Item = String> {
        let token = std::iter::once(Place::new("auth", "secret"));
        let keys = sections(&self.layer).map(|(place, _)| place.clone());
        let is_weak = |place: &Place| {
            let given = self.layer.get(place);
            given.is_some_and(|given| given.text.len() < SECRET_BYTES_MIN)
        };
        let weak: Vec<_> = token.chain(keys).filter(is_weak).collect();
        weak.into_iter().map(|place| format!("`{place}`"))
    }

    /// Checks that there are keys only in a server that began with one: another one keeps no list
    /// of its clients, and `serves_calls` is false.
    ///
    /// # Errors
    ///
    /// When the first key has come.
    pub fn must_begin_with_keys(&self, serves_calls: bool) -> Result<(), Problems> {
        if !serves_calls && !self.api_keys.is_empty() {
            let word = "[[api.keys]] has its first key now: start the server again to use it";
            return Err(Problem::Conflict(word).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;
    use crate::caller::Method;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<Config, String> {
        let sources = Sources::file("b.toml", &["ping"]);
        let config = sources.with_file("b.toml", text);
        config.map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_key_has_a_name_and_the_rights_that_are_named() {
        let config = read(&format!(
            "[api]\npublic = true\n[[api.keys]]\nname = \"web\"\nkey = \"{SECRET}\"\n\
             methods = [\"publish\", \"info\"]\nkinds = [\"chat\"]\n\
             [[api.keys]]\nname = \"ops\"\nkey = \"{SECRET}2\"\n"
        ));
        let config = config.expect("it is valid");
        assert!(config.api_public());
        let keys = config.api_keys();
        let rights = |secret: &str| keys.find(secret.as_bytes()).expect("known").clone();
        let (web, ops) = (rights(SECRET), rights(&format!("{SECRET}2")));
        assert_eq!((web.name(), ops.name()), ("web", "ops"));
        assert!(web.may_call(Method::Info) && !web.may_call(Method::Disconnect));
        assert!(ops.may_call(Method::Disconnect));
        let ping = "ping".parse().expect("a name");
        assert!(ops.reach(&ping) && !web.reach(&ping));
        let printed = config.print();
        assert!(!printed.contains(SECRET), "{printed}");
        assert!(
            printed.contains("[[api.keys]]\nname = \"web\"\n"),
            "{printed}"
        );
        assert_eq!(config.weak_secrets().count(), 0);
    }

    #[test]
    fn an_empty_list_of_rights_gives_none_and_one_secret_has_one_name() {
        let lists = "methods = []\nkinds = []";
        let config = read(&format!(
            "[[api.keys]]\nname = \"web\"\nkey = \"{SECRET}\"\n{lists}\n"
        ));
        let keys = config.expect("it is valid").api_keys();
        let rights = keys.find(SECRET.as_bytes()).expect("it is known");
        assert!(!rights.may_call(Method::Info) && !rights.reach(&"ping".parse().expect("a name")));
        let twice = read(&format!(
            "[[api.keys]]\nname = \"a\"\nkey = \"{SECRET}\"\n\
             [[api.keys]]\nname = \"b\"\nkey = \"{SECRET}\"\n"
        ));
        let problems = twice.expect_err("one secret, two names");
        assert!(problems.contains("another name has this key"), "{problems}");
    }

    #[test]
    fn a_key_that_is_wrong_is_named_with_its_line_and_without_its_secret() {
        let key = |rest: &str| format!("[[api.keys]]\n{rest}");
        for (text, parts) in [
            (key("key = \"s3cret\""), ["b.toml:1: ", "`name`"]),
            (key("name = \"A b\""), ["b.toml:1: ", "`name`"]),
            (key("name = \"a\""), ["`a`", "`key` is missing"]),
            (
                key("name = \"a\"\nkey = \"s3cret\""),
                ["b.toml:3: ", "32 bytes"],
            ),
            (
                key("name = \"a\"\nkee = \"s3cret\""),
                ["b.toml:3: ", "`key`?"],
            ),
            (
                key("name = \"a\"\nkey = \"s3cret\"\nmethods = [\"publsh\"]"),
                ["b.toml:4: ", "publsh"],
            ),
            ("api.keys = [1]".to_owned(), ["b.toml:1: ", "table"]),
            ("api.keys = 1".to_owned(), ["b.toml:1: ", "`keys`"]),
            (
                "[channels]\ndefault = \"x\"".to_owned(),
                ["[channels]", "[room.NAME]"],
            ),
            (
                "[auth]\nsecret = \"s3cret\"".to_owned(),
                ["b.toml:2: ", "32 bytes"],
            ),
        ] {
            let error = read(&text).expect_err(&text);
            for part in parts {
                assert!(error.contains(part), "{text}: {part}: {error}");
            }
            assert!(!error.contains("s3cret"), "{error}");
        }
        let two = format!("[[api.keys]]\nname = \"a\"\nkey = \"{SECRET}\"\n").repeat(2);
        let error = read(&two).expect_err("two of a name");
        assert!(error.contains("b.toml:4: "), "{error}");
    }

    #[test]
    fn short_secrets_are_taken_only_where_it_is_said_and_named() {
        let text = "[auth]\nsecret = \"secret\"\nallow_weak_secret = true\n\
                    [[api.keys]]\nname = \"a\"\nkey = \"key\"\n\
                    [room.news]\n[channels]\ndefault = \"news\"\n";
        let config = read(text).expect("it is said");
        let weak: Vec<_> = config.weak_secrets().collect();
        assert_eq!(weak, ["`auth.secret`", "`api.keys.a.key`"]);
        assert!(config.api_keys().find(b"key").is_some() && config.authenticates());
        assert_eq!(config.default_kind(), Some("news"));
    }

    #[test]
    fn keys_are_rotated_by_a_reload_and_the_first_one_waits_for_a_start() {
        let config = |secret: &str| {
            let text = format!("[[api.keys]]\nname = \"a\"\nkey = \"{secret}\"\n");
            read(&text).expect("it is valid")
        };
        let (old, new) = (config(SECRET), config(&SECRET.replace('0', "x")));
        let (merged, changes) = old.reloaded(&new).expect("it is valid");
        assert_eq!(changes.live, ["api.keys.a.key (not shown)"]);
        assert!(merged.api_keys().find(SECRET.as_bytes()).is_none());
        let (none, _) = old
            .reloaded(&read("").expect("valid"))
            .expect("it is valid");
        assert!(none.api_keys().is_empty());
        assert!(old.must_begin_with_keys(true).is_ok());
        assert!(old.must_begin_with_keys(false).is_err());
    }
}
