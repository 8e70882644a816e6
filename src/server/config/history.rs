//! The syntax of a history: an inline table of its three bounds.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::value::{Kind, Value};
use crate::limits::Retention;

/// The bounds of a history, as a file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetentionText(pub(crate) Retention);

/// The most messages that a history may keep.
const MESSAGES_MAX: usize = 10_000_000;

impl Value for RetentionText {
    const KIND: Kind = Kind::Table;
    const PLACEHOLDER: &'static str = "BOUNDS";

    fn allowed() -> String {
        "three bounds, such as { messages = 100, bytes = \"1MiB\", ttl = \"5m\" }, and if you like \
         `recovery_max`, the most messages of one recovery"
            .to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut bounds = Bounds::default();
        for (name, value) in items(text).ok_or_else(String::new)? {
            bounds.set(name, value)?;
        }
        bounds.retention().map(Self)
    }
}

/// The items of a table, with braces around it or without, and with quotes around values or
/// without; `None` for a text that is no table.
pub(super) fn items(text: &str) -> Option<Vec<(&str, &str)>> {
    let text = text.trim();
    let text = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let items = text.split(',').map(|item| {
        let (name, value) = item.split_once('=')?;
        let value = value.trim();
        let bare = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        Some((name.trim(), bare))
    });
    items.collect()
}

/// The bounds that were read so far.
#[derive(Default)]
struct Bounds {
    messages: Option<NonZeroUsize>,
    bytes: Option<usize>,
    ttl: Option<Duration>,
    recovery_max: Option<usize>,
}

impl Bounds {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let fault = || format!("`{name} = {value}`");
        let is_given = match name {
            "messages" => self.messages.is_some(),
            "bytes" => self.bytes.is_some(),
            "ttl" => self.ttl.is_some(),
            _ => self.recovery_max.is_some(),
        };
        if is_given {
            return Err(format!("`{name}` is there twice"));
        }
        match name {
            "messages" => self.messages = Some(messages(value).ok_or_else(fault)?),
            "bytes" => self.bytes = Some(bytes(value).ok_or_else(fault)?),
            "ttl" => {
                let ttl = humantime::parse_duration(value);
                let ttl = ttl.map_err(|error| format!("{}: {error}", fault()))?;
                self.ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
            }
            "recovery_max" => self.recovery_max = Some(messages(value).ok_or_else(fault)?.get()),
            _ => return Err(format!("there is no `{name}`")),
        }
        Ok(())
    }

    fn retention(self) -> Result<Retention, String> {
        let missing = |name| move || format!("`{name}` is missing");
        Ok(Retention {
            messages: self.messages.ok_or_else(missing("messages"))?,
            bytes: self.bytes.ok_or_else(missing("bytes"))?,
            ttl: self.ttl.ok_or_else(missing("ttl"))?,
            recovery_max: self.recovery_max,
        })
    }
}

fn messages(text: &str) -> Option<NonZeroUsize> {
    let messages = text.parse().ok()?;
    (messages <= MESSAGES_MAX).then(|| NonZeroUsize::new(messages))?
}

/// A number of bytes, with a unit or without: `1MiB`, `512KiB`, `4096`.
fn bytes(text: &str) -> Option<usize> {
    let units = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
        ("", 1),
    ];
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (unit, factor) = unit?;
    let number: usize = text.strip_suffix(unit)?.trim().parse().ok()?;
    number.checked_mul(*factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_three_bounds() {
        let read = |text| RetentionText::read(text).map(|text| text.0);
        let expected = Retention {
            messages: NonZeroUsize::new(100).expect("not 0"),
            bytes: 1 << 20,
            ttl: Duration::from_secs(300),
            recovery_max: None,
        };
        for text in [
            "messages = 100, bytes = 1MiB, ttl = 5m",
            "ttl=300s,bytes=1024 KiB,messages=100",
            "{ messages = 100, bytes = \"1048576\", ttl = \"5m\" }",
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        let asked = read("messages = 100, bytes = 1MiB, ttl = 5m, recovery_max = 7");
        assert_eq!(asked.map(|asked| asked.recovery_max), Ok(Some(7)));
        for (text, fault) in [
            ("messages = 100, bytes = 1MiB", "`ttl` is missing"),
            ("messages = 100, ttl = 5m", "`bytes` is missing"),
            ("bytes = 1MiB, ttl = 5m", "`messages` is missing"),
            ("messages = 0, bytes = 1MiB, ttl = 5m", "`messages = 0`"),
            ("messages = 1, bytes = 0B, ttl = 5m", "`bytes = 0B`"),
            ("messages = 1, bytes = 1TB, ttl = 5m", "`bytes = 1TB`"),
            ("messages = 1, bytes = 1B, ttl = 0s", "`ttl` is missing"),
            (
                "messages = 1, bytes = 1B, ttl = 5",
                "`ttl = 5`: time unit needed",
            ),
            (
                "messages = 1, bytes = 1B, ttl = 5s, x = 1",
                "there is no `x`",
            ),
            (
                "messages = 1, messages = 2, bytes = 1B, ttl = 5s",
                "`messages` is there twice",
            ),
            (
                "messages = 1, bytes = 1B, ttl = 5s, recovery_max = 0",
                "`recovery_max = 0`",
            ),
            ("{ messages = 1, bytes = 1B, ttl = 5s", ""),
            ("messages = 1, bytes = 1B, ttl = \"5s", ""),
            ("100", ""),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(fault), "{text}: {error}");
        }
    }
}
