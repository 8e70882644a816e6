//! The label of messages: their origin, and their tags if they have any.

use std::sync::Arc;

use super::origin::Origin;
use super::tags::Tags;

/// The origin of messages, and their tags. Few messages have tags: a label without them takes the
/// memory of its origin alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Label {
    Plain(Origin),
    Tagged(Arc<Tagged>),
}

/// A label with tags, at least one.
#[derive(Debug, PartialEq)]
pub(super) struct Tagged {
    origin: Origin,
    tags: Tags,
}

impl From<Origin> for Label {
    #[inline]
    fn from(origin: Origin) -> Self {
        Self::Plain(origin)
    }
}

impl Label {
    #[inline]
    pub(super) fn origin(&self) -> &Origin {
        match self {
            Self::Plain(origin) => origin,
            Self::Tagged(tagged) => &tagged.origin,
        }
    }

    /// The tags; `None` without any.
    #[inline]
    pub(super) fn tags(&self) -> Option<&Tags> {
        match self {
            Self::Plain(_) => None,
            Self::Tagged(tagged) => Some(&tagged.tags),
        }
    }

    /// The bytes of the tags, which count for each message.
    #[inline]
    pub(super) fn tag_bytes(&self) -> usize {
        self.tags().map_or(0, Tags::bytes)
    }

    /// The bytes of memory that the label keeps beside itself for its tags.
    pub(super) fn pinned_bytes(&self) -> usize {
        self.tags()
            .map_or(0, |tags| size_of::<Tagged>() + tags.bytes())
    }

    /// Sets the origin; the tags stay.
    #[inline]
    pub(super) fn with_origin(&self, origin: Origin) -> Self {
        match self {
            Self::Plain(_) => Self::Plain(origin),
            Self::Tagged(tagged) => {
                let tags = tagged.tags.clone();
                Self::Tagged(Arc::new(Tagged { origin, tags }))
            }
        }
    }

    /// Sets the tags, in the place of any that are there.
    pub(super) fn with_tags(&self, tags: Tags) -> Self {
        let origin = self.origin().clone();
        if tags.is_empty() {
            Self::Plain(origin)
        } else {
            Self::Tagged(Arc::new(Tagged { origin, tags }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::origin::Generation;

    #[test]
    fn a_label_takes_no_more_memory_than_its_origin() {
        assert_eq!(size_of::<Label>(), size_of::<Origin>());
    }

    #[test]
    fn tags_stay_with_another_origin_and_go_with_empty_ones() {
        let tags: Tags = [("a", "1")].into_iter().collect();
        let plain = Label::from(Origin::Unknown);
        assert_eq!((plain.tags(), plain.tag_bytes()), (None, 0));
        let service = Origin::Service(Generation::new(2));
        let tagged = plain.with_tags(tags.clone()).with_origin(service.clone());
        assert_eq!((tagged.origin(), tagged.tags()), (&service, Some(&tags)));
        assert_eq!(tagged.tag_bytes(), r#"{"a":"1"}"#.len());
        assert!(tagged.pinned_bytes() > tagged.tag_bytes());
        let none = tagged.with_tags(std::iter::empty::<(&str, &str)>().collect());
        assert_eq!(none, Label::Plain(service));
    }
}
