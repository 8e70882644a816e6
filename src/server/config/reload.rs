//! Reloads a configuration: which changes a running server applies, and which wait for a start.

use std::collections::BTreeSet;
use std::fmt;

use super::Config;
use super::key::Change;
use super::problem::Problems;
use super::schema::keys_of;
use super::source::{Layer, Place};

/// The differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changes that were applied, each as `key: old -> new`.
    pub live: Vec<String>,
    /// The changes that wait for the next start of the server.
    pub start: Vec<String>,
}

impl Config {
    /// This configuration with all changes of a newer one that a running server can apply.
    ///
    /// # Errors
    ///
    /// When the combination is contradictory; the running configuration then stays as it is.
    pub fn reloaded(&self, newer: &Self) -> Result<(Self, Changes), Problems> {
        let mut layer = newer.layer.clone();
        let mut changes = Changes::default();
        for place in places(&self.layer, &newer.layer) {
            let Some(key) = keys_of(&place.section).find(|key| key.name == place.key) else {
                continue;
            };
            let text = |layer: &Layer| layer.get(&place).map(|given| given.text.clone());
            let (old, new) = (text(&self.layer), text(&newer.layer));
            if old == new {
                continue;
            }
            let shown = |text: Option<String>| {
                text.map_or_else(|| "unset".to_owned(), |text| format!("{text:?}"))
            };
            match key.change {
                Change::Live => {
                    changes
                        .live
                        .push(format!("{place}: {} -> {}", shown(old), shown(new)));
                }
                Change::Secret => changes.live.push(format!("{place} (not shown)")),
                Change::Start => {
                    changes
                        .start
                        .push(format!("{place}: {} -> {}", shown(old), shown(new)));
                    layer.put(place.clone(), self.layer.get(&place).cloned());
                }
            }
        }
        let mut problems = Vec::new();
        let mut config = Self::read(layer, self.names, &mut problems);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        self.compare_files(&mut config, &mut changes);
        Ok((config, changes))
    }

    /// Reports files whose content has changed although the setting that names them has not.
    fn compare_files(&self, newer: &mut Self, changes: &mut Changes) {
        let changed: Vec<_> = self.files.changed(&newer.files).cloned().collect();
        for place in changed {
            let live = keys_of(&place.section)
                .any(|key| key.name == place.key && key.change != Change::Start);
            let is_renamed = self.layer.get(&place).map(|given| &given.text)
                != newer.layer.get(&place).map(|given| &given.text);
            let told = format!("{place}: the content of its file");
            match live {
                // The change of the name is already reported.
                true if is_renamed => {}
                true => changes.live.push(told),
                false => {
                    changes.start.push(told);
                    newer.files.keep(&place, &self.files);
                }
            }
        }
    }
}

/// The places that one of the two layers has a value for.
fn places(old: &Layer, new: &Layer) -> BTreeSet<Place> {
    let both = old.iter().chain(new.iter());
    both.map(|(place, _)| place.clone()).collect()
}

impl Changes {
    /// Whether there are no differences.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.start.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no setting has changed");
        }
        if !self.live.is_empty() {
            write!(f, "taken over: {}", self.live.join("; "))?;
        }
        if !self.start.is_empty() {
            let between = if self.live.is_empty() { "" } else { "; " };
            let waiting = self.start.join("; ");
            write!(f, "{between}left as it was until the next start: {waiting}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;
    use crate::limits::Publish;

    fn config(text: &str) -> Config {
        let sources = Sources::file("b.toml", &["ping"]);
        sources.with_file("b.toml", text).expect("it is valid")
    }

    #[test]
    fn what_can_change_is_taken_over_and_what_cannot_stays() {
        let old = config("window = 1\n[service.ping]\nlinger = \"1s\"\n");
        let new = config(
            "window = 2\nmax_message_bytes = 9\n[service.ping]\nslow_consumer = \"close\"\n",
        );
        let (merged, changes) = old.reloaded(&new).expect("it is valid");
        assert_eq!(
            changes.live,
            [
                "max_message_bytes: unset -> \"9\"",
                "service.ping.slow_consumer: unset -> \"close\""
            ]
        );
        assert_eq!(
            changes.start,
            [
                "window: \"1\" -> \"2\"",
                "service.ping.linger: \"1s\" -> unset"
            ]
        );
        assert_eq!(merged.limits().message_bytes, 9);
        assert_eq!(merged.limits().window.messages.get(), 1);
        let printed = merged.print();
        assert!(printed.contains("linger = \"1s\""), "{printed}");
        let (_, again) = merged.reloaded(&new).expect("it is valid");
        assert_eq!((again.live.len(), again.start.len()), (0, 2));
    }

    #[test]
    fn the_rules_of_a_relay_change_at_once_and_its_rooms_with_the_next_start() {
        let old = config("[room.news]\npublish = \"members\"\n[room.gone]\n");
        let new = config("[room.news]\necho = false\nclients = 3\n[room.new]\n");
        let (merged, changes) = old.reloaded(&new).expect("it is valid");
        let policy = merged.policy("news");
        let relay = policy.relay.expect("it is a relay");
        assert!(!relay.echo);
        assert_eq!(policy.publish, Publish::Nobody);
        assert_eq!(policy.lifecycle.clients_max, 10_000);
        let kinds: Vec<_> = merged.rooms().map(|(name, _run)| name).collect();
        assert_eq!(kinds, ["gone", "news"]);
        assert_eq!(changes.live.len(), 2, "{changes}");
        let waits = changes.start.join("; ");
        for place in ["room.gone.run", "room.new.run", "room.news.clients"] {
            assert!(waits.contains(place), "{waits}");
        }
    }

    #[test]
    fn what_stays_must_be_there_still() {
        let name = format!("busline-{}-reload.pem", std::process::id());
        let ca = std::env::temp_dir().join(name);
        let pem = include_str!("../../../tests/e2e/keys/a.pem");
        std::fs::write(&ca, pem).expect("a test may write there");
        let ca_text = ca.display().to_string();
        let old = config(&format!(
            "[auth]\njwks_url = \"https://localhost/\"\njwks_ca = \"{ca_text}\"\n"
        ));
        std::fs::remove_file(&ca).expect("it is there");
        let problems = old.reloaded(&config("")).expect_err("its file is gone");
        assert!(problems.to_string().contains(&ca_text), "{problems}");
    }

    #[test]
    fn what_has_changed_in_a_file_that_a_setting_names_is_told() {
        let file = |name: &str| {
            let name = format!("busline-{}-{name}.pem", std::process::id());
            std::env::temp_dir().join(name)
        };
        let (keys, ca) = (file("told-keys"), file("told-ca"));
        let public = |name: &str| {
            let path = format!("{}/tests/e2e/keys/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read(path).expect("it is there")
        };
        let write = |path: &std::path::Path, text: &[u8]| {
            std::fs::write(path, text).expect("a test may write there");
        };
        write(&keys, JWKS.as_bytes());
        write(&ca, &public("a.pem"));
        let text = format!(
            "[auth]\nkeys = {keys:?}\njwks_url = \"https://localhost/\"\njwks_ca = {ca:?}\n"
        );
        let old = config(&text);
        let (same, changes) = old.reloaded(&config(&text)).expect("it is valid");
        assert!(changes.is_empty(), "{changes}");
        write(&keys, JWKS.replace("AAAA", "AAAB").as_bytes());
        write(&ca, &public("b.pem"));
        let (new, changes) = same.reloaded(&config(&text)).expect("it is valid");
        assert_eq!(changes.live, ["auth.keys: the content of its file"]);
        assert_eq!(changes.start, ["auth.jwks_ca: the content of its file"]);
        let (_, again) = new.reloaded(&config(&text)).expect("it is valid");
        assert!(again.live.is_empty(), "{again}");
        assert_eq!(again.start, changes.start, "it waits still");
        for path in [keys, ca] {
            std::fs::remove_file(path).expect("it is there");
        }
    }

    /// A secret in a JWKS.
    const JWKS: &str = concat!(
        r#"{"keys":[{"kty":"oct","k":""#,
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        r#""}]}"#
    );

    #[test]
    fn the_same_file_changes_nothing() {
        let old = config("window = 1\n");
        let (_, changes) = old
            .reloaded(&config("\nwindow = 1\n"))
            .expect("it is valid");
        assert!(changes.is_empty(), "{changes}");
        assert_eq!(changes.to_string(), "no setting has changed");
    }
}
