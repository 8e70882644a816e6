//! The tags of messages: texts by name that travel beside the payload.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Texts by name that a publisher gives its messages, such as `{"kind":"price"}`; cheap to clone.
///
/// A service, a backend and a client of `busline.v1.json` read them; other clients get the payload
/// alone. Tags have no bound of their own: their [`bytes`](Self::bytes) count as a part of each
/// message that has them, wherever the payload counts.
///
/// ```
/// use busline::Message;
/// use busline::bus::Tags;
///
/// let tags: Tags = [("kind", "price"), ("unit", "EUR")].into_iter().collect();
/// let message = Message::text("9.80").tagged(tags);
/// let unit = message.tags().and_then(|tags| tags.get("unit"));
/// assert_eq!(unit.as_deref(), Some("EUR"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tags(
    /// An object of strings as JSON, in the order of the names: one block of memory, which
    /// envelopes take over as it is.
    Arc<str>,
);

/// A text is no JSON object of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tags are a JSON object of strings")]
pub struct BadTags;

impl Tags {
    fn new(tags: &BTreeMap<String, String>) -> Self {
        let json = serde_json::to_string(tags);
        Self(json.expect("texts by name are JSON").into())
    }

    /// The tags as a JSON object of strings, in the order of their names.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The length of the tags as JSON, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tag.
    pub fn is_empty(&self) -> bool {
        &*self.0 == "{}"
    }

    /// The text with this name; `None` without it. Reads the JSON each time.
    pub fn get(&self, name: &str) -> Option<String> {
        self.to_map().remove(name)
    }

    /// The texts by name. Reads the JSON each time.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        serde_json::from_str(&self.0).expect("it was written as an object of strings")
    }
}

impl From<&BTreeMap<String, String>> for Tags {
    fn from(tags: &BTreeMap<String, String>) -> Self {
        Self::new(tags)
    }
}

impl<N: Into<String>, T: Into<String>> FromIterator<(N, T)> for Tags {
    /// Makes tags of names with their texts; of several texts with one name the last counts.
    fn from_iter<I: IntoIterator<Item = (N, T)>>(tags: I) -> Self {
        let tags = tags.into_iter();
        Self::new(
            &tags
                .map(|(name, text)| (name.into(), text.into()))
                .collect(),
        )
    }
}

impl FromStr for Tags {
    type Err = BadTags;

    fn from_str(json: &str) -> Result<Self, BadTags> {
        let tags = serde_json::from_str(json).map_err(|_| BadTags)?;
        Ok(Self::new(&tags))
    }
}

impl fmt::Debug for Tags {
    /// Writes the length alone: names and texts belong to users, as payloads do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tags({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_one_json_object_in_the_order_of_their_names() {
        let tags: Tags = [("b", "2"), ("a", "\"\n"), ("b", "3")]
            .into_iter()
            .collect();
        assert_eq!(tags.as_json(), r#"{"a":"\"\n","b":"3"}"#);
        assert_eq!(tags.bytes(), tags.as_json().len());
        assert_eq!(tags.get("a").as_deref(), Some("\"\n"));
        assert_eq!(tags.get("c"), None);
        assert!(!tags.is_empty() && Tags::new(&BTreeMap::new()).is_empty());
        assert_eq!(Tags::from(&tags.to_map()), tags);
    }

    #[test]
    fn a_text_is_read_as_tags_only_if_it_is_an_object_of_strings() {
        let read: Result<Tags, _> = r#" {"b":"2", "a":"1"} "#.parse();
        let read = read.map(|tags| tags.as_json().to_owned());
        assert_eq!(read, Ok(r#"{"a":"1","b":"2"}"#.to_owned()));
        for bad in ["", "null", "[]", r#"{"a":1}"#, r#"{"a":null}"#, "{} {}"] {
            assert_eq!(bad.parse::<Tags>(), Err(BadTags), "{bad}");
        }
    }

    #[test]
    fn tags_show_their_length_alone() {
        let tags: Tags = [("a", "secret")].into_iter().collect();
        assert_eq!(format!("{tags:?}"), "Tags(14 bytes)");
    }
}
