//! Negotiates between two media types by `Accept` (RFC 9110 12.5.1); pure.

use axum::http::{HeaderMap, header};

/// A media type that the server can send, in lower case.
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaType {
    /// `text` of `text/plain`.
    pub(super) of: &'static str,
    /// `plain` of `text/plain`.
    pub(super) sub: &'static str,
    /// The version of the media type; a request for another version does not match.
    pub(super) version: Option<&'static str>,
}

/// Whether a client names a media type and does not prefer the alternative.
///
/// A range with a `*` counts for `other` only: a client that does not name the first media type may
/// not know it.
pub(super) fn prefers(headers: &HeaderMap, named: MediaType, other: MediaType) -> bool {
    let fields = headers.get_all(header::ACCEPT).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    let ranges: Vec<_> = fields
        .flat_map(|field| split(field, ','))
        .filter_map(Range::parse)
        .collect();
    let by_name = ranges.iter().filter(|range| range.names(&named));
    let liked = by_name.map(|range| range.thousandths).max();
    liked.is_some_and(|liked| liked > 0 && liked >= quality(&ranges, &other))
}

/// The client's quality value for a media type, in thousandths; the most specific range decides.
fn quality(ranges: &[Range<'_>], media_type: &MediaType) -> u16 {
    let matching = ranges
        .iter()
        .filter_map(|range| Some((range.specificity(media_type)?, range.thousandths)));
    matching.max().map_or(0, |(_, thousandths)| thousandths)
}

/// A media range of a client, with its quality value.
#[derive(Debug)]
struct Range<'a> {
    of: &'a str,
    sub: &'a str,
    version: Option<&'a str>,
    thousandths: u16,
}

impl<'a> Range<'a> {
    /// Parses `text/plain;version=0.0.4;q=0.5`; an invalid range is ignored.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split(text, ';');
        let (of, sub) = parts.next()?.trim().split_once('/')?;
        let mut range = Self {
            of,
            sub,
            version: None,
            thousandths: 1000,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("q") {
                range.thousandths = thousandths(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        Some(range)
    }

    fn names(&self, media_type: &MediaType) -> bool {
        let is_version = |asked| media_type.version.is_none_or(|own| own == asked);
        self.of.eq_ignore_ascii_case(media_type.of)
            && self.sub.eq_ignore_ascii_case(media_type.sub)
            && self.version.is_none_or(is_version)
    }

    /// How specifically the range matches this media type; `None` if it does not match.
    fn specificity(&self, media_type: &MediaType) -> Option<u8> {
        let is_of = self.of.eq_ignore_ascii_case(media_type.of);
        match (self.of, self.sub) {
            ("*", "*") => Some(0),
            (_, "*") if is_of => Some(1),
            _ if self.names(media_type) => Some(2 + u8::from(self.version.is_some())),
            _ => None,
        }
    }
}

/// Parses a quality value from 0 to 1 with at most three digits behind the point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_short = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let rest: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" if is_short => Some(rest),
        "1" if is_short && rest == 0 => Some(1000),
        _ => None,
    }
}

/// The parts between separators; a separator inside quotes does not count.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |letter| {
        let is_plain = !std::mem::take(&mut is_escaped);
        is_escaped = is_plain && is_quoted && letter == '\\';
        is_quoted ^= is_plain && letter == '"';
        letter == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const NAMED: MediaType = MediaType {
        of: "application",
        sub: "openmetrics-text",
        version: Some("1.0.0"),
    };

    const OTHER: MediaType = MediaType {
        of: "text",
        sub: "plain",
        version: Some("0.0.4"),
    };

    fn is_preferred(fields: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_bytes(field.as_bytes());
            headers.append(header::ACCEPT, value.expect("no control characters"));
        }
        prefers(&headers, NAMED, OTHER)
    }

    #[test]
    fn who_names_it_and_likes_nothing_better_gets_it() {
        for fields in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text; Version=1.0.0"],
            &["application/openmetrics-text;version=\"1.0.0\",text/plain"],
            &["application/openmetrics-text;q=0.5,text/plain;q=0.3,*/*;q=0.1"],
            &["text/plain;q=0.3 , application/openmetrics-text ; q=0.300"],
            &["text/plain;q=0.1,*/*,application/openmetrics-text;q=0.2"],
            &["text/*;q=0.1", "application/openmetrics-text;q=0.2"],
            &["text/plain;version=1.0.0,application/openmetrics-text;q=0.1"],
            &["application/openmetrics-text;version=9;q=0.9,application/openmetrics-text;q=0.1"],
            &["application/openmetrics-text;x=\"a,text/plain\";q=0.5,text/plain;q=0.4"],
            &["\u{e9}", "application/openmetrics-text"],
            &["application/openmetrics-text;q=0.001"],
        ] {
            assert!(is_preferred(fields), "{fields:?}");
        }
    }

    #[test]
    fn everybody_else_gets_the_other_one() {
        for fields in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["text/plain"],
            &["application/openmetrics-text;q=0,text/plain"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;Q=0.000"],
            &["application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.9"],
            &["application/openmetrics-text;q=0.1,text/*;q=0.9"],
            &["application/openmetrics-text;q=0.1,*/*;q=0.9"],
            &["application/openmetrics-text;version=2.0.0"],
            &["application/openmetrics-text;q=2"],
            &["application/openmetrics-text;q=1.001"],
            &["application/openmetrics-text;q=0.0001"],
            &["application/openmetrics-text;q=-1"],
            &["application/openmetrics-text;q="],
            &["application/openmetrics-texts"],
            &["application/x;y=\"application/openmetrics-text\""],
            &["application/x;y=\"\\\",application/openmetrics-text\""],
        ] {
            assert!(!is_preferred(fields), "{fields:?}");
        }
    }
}
