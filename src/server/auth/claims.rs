//! The claims of a token, and whether they are sufficient: pure.

use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::bus::Room;

/// Maximum number of names in `services`, and in `rooms`, that are compared.
const GRANTS_MAX: usize = 256;

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// The subject: `sub`.
    pub(super) subject: Option<String>,
    issuer: Option<String>,
    audiences: Vec<String>,
    not_before: Option<SystemTime>,
    expires: SystemTime,
    /// Names of services, or prefixes of names followed by `*`.
    services: Vec<String>,
    /// Channels of rooms with percent-encoded keys, or `kind:*`.
    rooms: Vec<String>,
}

/// The required claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) audiences: &'a [String],
    pub(super) issuers: &'a [String],
    pub(super) leeway: Duration,
}

/// Why the claims are not sufficient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The token is for another audience.
    #[error("its `aud` is not one of this server's")]
    Audience,
    /// The token has expired.
    #[error("its `exp` is over")]
    Expired,
    /// The token is from an issuer that is not accepted.
    #[error("its `iss` is not an accepted issuer")]
    Issuer,
    /// A claim is invalid or missing.
    #[error("its `{0}` is not what it should be")]
    Malformed(&'static str),
    /// The token is not valid yet.
    #[error("its `nbf` is yet to come")]
    NotYet,
}

impl Claims {
    /// Parses the payload of a token.
    pub(super) fn parse(json: &str) -> Result<Self, ClaimError> {
        let claims: Map<String, Value> =
            serde_json::from_str(json).map_err(|_| ClaimError::Malformed("payload"))?;
        Ok(Self {
            subject: text(&claims, "sub")?,
            issuer: text(&claims, "iss")?,
            audiences: texts(&claims, "aud")?,
            not_before: date(&claims, "nbf")?,
            // A token without an end could never be revoked.
            expires: date(&claims, "exp")?.ok_or(ClaimError::Malformed("exp"))?,
            services: texts(&claims, "services")?,
            rooms: texts(&claims, "rooms")?,
        })
    }

    /// Checks the claims at the time `wall`; returns when the token expires.
    pub(super) fn check(
        &self,
        expected: &Expected<'_>,
        wall: SystemTime,
    ) -> Result<SystemTime, ClaimError> {
        let end = self.expires.checked_add(expected.leeway);
        let end = end.ok_or(ClaimError::Malformed("exp"))?;
        if wall >= end {
            return Err(ClaimError::Expired);
        }
        let latest = wall.checked_add(expected.leeway).unwrap_or(wall);
        if self.not_before.is_some_and(|start| latest < start) {
            return Err(ClaimError::NotYet);
        }
        let ours = |audience: &String| expected.audiences.contains(audience);
        let for_us = if self.audiences.is_empty() {
            expected.audiences.is_empty()
        } else {
            self.audiences.iter().any(ours)
        };
        if !for_us {
            return Err(ClaimError::Audience);
        }
        let issuer = self.issuer.as_ref();
        let issued = issuer.is_some_and(|issuer| expected.issuers.contains(issuer));
        if !issued && !expected.issuers.is_empty() {
            return Err(ClaimError::Issuer);
        }
        Ok(end)
    }

    /// Whether the token grants this service or room; the claim for the one never grants the other.
    pub(super) fn grant(&self, room: &Room) -> bool {
        if room.is_service() {
            self.grant_service(room.kind().as_str())
        } else {
            let mut rooms = self.rooms.iter().take(GRANTS_MAX);
            rooms.any(|granted| is_room(granted, room))
        }
    }

    /// Whether the token grants this service, by its name or by a prefix followed by `*`.
    fn grant_service(&self, service: &str) -> bool {
        let mut services = self.services.iter().take(GRANTS_MAX);
        services.any(|granted| match granted.strip_suffix('*') {
            Some(start) => service.starts_with(start),
            None => granted == service,
        })
    }
}

/// Whether a name of the claim `rooms` is this room, or `kind:*` of its kind.
fn is_room(granted: &str, room: &Room) -> bool {
    let Some((kind, key)) = granted.split_once(':') else {
        return false;
    };
    // A `*` that belongs to a key is encoded as `%2A`.
    kind == room.kind().as_str() && (key == "*" || percent_decode_str(key).eq(room.key().bytes()))
}

fn text(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, ClaimError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().ok_or(ClaimError::Malformed(name))?;
            Ok(Some(text.to_owned()))
        }
    }
}

/// A list of texts; a single text counts as a list of one.
fn texts(claims: &Map<String, Value>, name: &'static str) -> Result<Vec<String>, ClaimError> {
    let malformed = ClaimError::Malformed(name);
    let Some(value) = claims.get(name) else {
        return Ok(Vec::new());
    };
    if let Some(text) = value.as_str() {
        return Ok(vec![text.to_owned()]);
    }
    let values = value.as_array().ok_or_else(|| malformed.clone())?;
    let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or(malformed)
}

/// Seconds since 1970, with or without a fraction.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, ClaimError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(ClaimError::Malformed(name))?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| ClaimError::Malformed(name))?;
    let date = SystemTime::UNIX_EPOCH.checked_add(since);
    date.map(Some).ok_or(ClaimError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ServiceName;

    const NONE: &[String] = &[];

    fn wall(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn check(json: &str, audiences: &[String], issuers: &[String]) -> Result<(), ClaimError> {
        let expected = Expected {
            audiences,
            issuers,
            leeway: Duration::from_secs(5),
        };
        Claims::parse(json)?.check(&expected, wall(1000)).map(drop)
    }

    #[test]
    fn a_token_is_good_between_its_dates_with_some_leeway() {
        for (json, expected) in [
            (r#"{"exp":1001}"#, Ok(())),
            (r#"{"exp":996}"#, Ok(())),
            (r#"{"exp":995.5}"#, Ok(())),
            (r#"{"exp":995}"#, Err(ClaimError::Expired)),
            (r#"{"exp":0}"#, Err(ClaimError::Expired)),
            (r#"{"exp":2000,"nbf":1005}"#, Ok(())),
            (r#"{"exp":2000,"nbf":1006}"#, Err(ClaimError::NotYet)),
            (r#"{}"#, Err(ClaimError::Malformed("exp"))),
            (r#"{"exp":"2000"}"#, Err(ClaimError::Malformed("exp"))),
            (r#"{"exp":-1}"#, Err(ClaimError::Malformed("exp"))),
            (r#"{"exp":1e300}"#, Err(ClaimError::Malformed("exp"))),
            (r#"{"exp":null}"#, Err(ClaimError::Malformed("exp"))),
            (
                r#"{"exp":2000,"nbf":null}"#,
                Err(ClaimError::Malformed("nbf")),
            ),
            (r#"[]"#, Err(ClaimError::Malformed("payload"))),
            (r#"{"exp":2000,"sub":7}"#, Err(ClaimError::Malformed("sub"))),
        ] {
            assert_eq!(check(json, NONE, NONE), expected, "{json}");
        }
    }

    #[test]
    fn a_token_must_be_for_us() {
        let ours = &["bus".to_owned(), "car".to_owned()];
        for (aud, ours, good) in [
            (r#""bus""#, &ours[..], true),
            (r#"["x","car"]"#, ours, true),
            (r#""x""#, ours, false),
            (r#"[]"#, ours, false),
            (r#""x""#, NONE, false),
        ] {
            let json = format!(r#"{{"exp":2000,"aud":{aud}}}"#);
            let expected = if good {
                Ok(())
            } else {
                Err(ClaimError::Audience)
            };
            assert_eq!(check(&json, ours, NONE), expected, "{aud}");
        }
        assert_eq!(
            check(r#"{"exp":2000}"#, ours, NONE),
            Err(ClaimError::Audience)
        );
        let malformed = check(r#"{"exp":2000,"aud":[1]}"#, ours, NONE);
        assert_eq!(malformed, Err(ClaimError::Malformed("aud")));
    }

    #[test]
    fn a_token_must_be_from_somebody_who_is_believed() {
        let ours = &["https://id.example".to_owned()];
        for (json, good) in [
            (r#"{"exp":2000,"iss":"https://id.example"}"#, true),
            (r#"{"exp":2000,"iss":"https://id.example/"}"#, false),
            (r#"{"exp":2000}"#, false),
        ] {
            let expected = if good {
                Ok(())
            } else {
                Err(ClaimError::Issuer)
            };
            assert_eq!(check(json, NONE, ours), expected, "{json}");
        }
    }

    #[test]
    fn a_token_grants_what_it_names_and_what_starts_as_it_says() {
        let grant = |services: &str, service: &str| {
            let json = format!(r#"{{"exp":1,"services":{services},"rooms":"*"}}"#);
            Claims::parse(&json)
                .expect("claims")
                .grant(&self::service(service))
        };
        let some = r#"["chat","room-*"]"#;
        for service in ["chat", "room-1", "room-"] {
            assert!(grant(some, service), "{service}");
        }
        for service in ["chat2", "cha", "room", "a-room-1"] {
            assert!(!grant(some, service), "{service}");
        }
        assert!(grant(r#""*""#, "anything"));
        assert!(!grant("[]", "chat"));
        let none = Claims::parse(r#"{"exp":1}"#).expect("claims");
        assert!(!none.grant(&service("chat")) && !none.grant(&room("chat", "")));
    }

    fn service(name: &str) -> Room {
        let name: ServiceName = name.parse().expect("a name");
        Room::from(&name)
    }

    fn room(kind: &str, key: &str) -> Room {
        let kind = kind.parse().expect("a name");
        Room::new(&kind, key).expect("a key")
    }

    #[test]
    fn a_room_with_an_empty_key_is_granted_as_a_room_and_not_as_a_service() {
        for (json, of_room, of_service) in [
            (r#"{"exp":1,"services":"chat"}"#, false, true),
            (r#"{"exp":1,"services":"*"}"#, false, true),
            (r#"{"exp":1,"rooms":["chat:"]}"#, true, false),
            (r#"{"exp":1,"rooms":["chat:*"]}"#, true, false),
            (r#"{"exp":1,"rooms":["chat:42","chat"]}"#, false, false),
        ] {
            let claims = Claims::parse(json).expect("claims");
            assert_eq!(claims.grant(&room("chat", "")), of_room, "{json}");
            assert_eq!(claims.grant(&service("chat")), of_service, "{json}");
        }
    }

    #[test]
    fn a_token_grants_the_rooms_that_it_names_and_those_of_a_kind() {
        let json = r#"{"exp":1,"services":"*","rooms":
            ["chat:42","chat:a%2Ab","chat:a%20b","chat:c%3Ad","chat:100%25","game:*","x","y:b*"]}"#;
        let claims = Claims::parse(json).expect("claims");
        let granted = ["42", "a*b", "a b", "c:d", "100%"].map(|key| ("chat", key));
        for (kind, key) in granted.into_iter().chain([("game", "any"), ("game", "$x")]) {
            assert!(claims.grant(&room(kind, key)), "{kind}:{key}");
        }
        for (kind, key) in [
            ("chat", "4"),
            ("chat", "421"),
            ("chat", "a%2Ab"),
            ("chat", "axb"),
            ("games", "any"),
            ("x", "1"),
            ("y", "bc"),
        ] {
            assert!(!claims.grant(&room(kind, key)), "{kind}:{key}");
        }
        let services = Claims::parse(r#"{"exp":1,"services":"*"}"#).expect("claims");
        assert!(!services.grant(&room("chat", "42")));
        assert!(services.grant(&service("chat")) && !claims.grant(&room("chat", "")));
    }
}
