//! The server's half of the opening handshake: RFC 6455 4.2.

use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD as BASE64};
use sha1::{Digest, Sha1};

use super::subprotocols;
use crate::session::Subprotocol;
use crate::wire::Deflate;

/// The GUID that every server appends to the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version of the protocol.
const VERSION: &str = "13";

/// Decodes keys, and ignores the unused bits after the 16 bytes: the example of RFC 6455 4.1 has
/// such bits, and so do keys of real clients. The server uses a key as text, never its bytes.
const KEYS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    PAD.with_decode_allow_trailing_bits(true),
);

/// A client's valid request for a WebSocket, with the value for the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    accept: HeaderValue,
    deflate: Option<Deflate>,
    /// The subprotocol that the client has requested by name.
    named: Option<Subprotocol>,
}

/// Why a request for a WebSocket is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the Sec-WebSocket-Key is not 16 bytes in base64")]
    BadKey,
    #[error(
        "a request to upgrade has no body: send it without Transfer-Encoding, and without a \
         Content-Length other than 0"
    )]
    Body,
    #[error("this is a WebSocket: connect to it with a WebSocket client")]
    NoUpgrade,
    #[error("this request for a WebSocket came as HTTP/1.0, which has none: {PROXY}")]
    OldHttp,
    #[error("this request for a WebSocket came without `{header}: {token}`: {PROXY}")]
    Removed {
        header: &'static str,
        token: &'static str,
    },
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
}

/// How to repair a proxy that changes the request.
const PROXY: &str = "a proxy in between must speak HTTP/1.1 to this server, and pass Upgrade and \
                     Connection on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
                     $http_upgrade; proxy_set_header Connection \"upgrade\";)";

impl Handshake {
    /// Parses the head of the request.
    pub(super) fn parse(version: Version, headers: &HeaderMap) -> Result<Self, HandshakeError> {
        is_upgrade(version, headers)?;
        // Bytes of a body that arrive after the response would be read as frames.
        if has_body(headers) {
            return Err(HandshakeError::Body);
        }
        if headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|v| v != VERSION)
        {
            return Err(HandshakeError::Version);
        }
        let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        match (keys.next(), keys.next()) {
            (Some(key), None) => Ok(Self {
                accept: accept(key.as_bytes())?,
                deflate: offered(headers),
                named: subprotocols::listed(headers).find_map(Subprotocol::named),
            }),
            (Some(_), Some(_)) | (None, _) => Err(HandshakeError::BadKey),
        }
    }

    /// The compression agreed on, if the client offered it.
    pub(super) fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// The subprotocol to speak with the client.
    pub(super) fn subprotocol(&self) -> Subprotocol {
        self.named.unwrap_or_default()
    }

    /// Removes the extensions.
    pub(super) fn without_extensions(self) -> Self {
        Self {
            deflate: None,
            ..self
        }
    }
}

/// Checks whether the request asks for a WebSocket as HTTP prescribes.
fn is_upgrade(version: Version, headers: &HeaderMap) -> Result<(), HandshakeError> {
    let has_upgrade = lists(headers, header::UPGRADE, "websocket");
    let has_connection = lists(headers, header::CONNECTION, "upgrade");
    // A proxy passes these headers on, and removes the headers for a single connection.
    let is_meant = has_upgrade || headers.contains_key(header::SEC_WEBSOCKET_KEY);
    let removed = |header, token| HandshakeError::Removed { header, token };
    match (has_upgrade, has_connection) {
        _ if !is_meant => Err(HandshakeError::NoUpgrade),
        _ if version < Version::HTTP_11 => Err(HandshakeError::OldHttp),
        (false, _) => Err(removed("Upgrade", "websocket")),
        (true, false) => Err(removed("Connection", "Upgrade")),
        (true, true) => Ok(()),
    }
}

/// Whether the request announces a body; its bytes may not have arrived yet.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    let length = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().map(length);
    headers.contains_key(header::TRANSFER_ENCODING) || lengths.any(|length| length != Some(0_u64))
}

/// The proof that the server speaks WebSocket: RFC 6455 4.2.2.
fn accept(key: &[u8]) -> Result<HeaderValue, HandshakeError> {
    match KEYS.decode(key) {
        Ok(nonce) if nonce.len() == 16 => {}
        Ok(_) | Err(_) => return Err(HandshakeError::BadKey),
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let accept = HeaderValue::try_from(BASE64.encode(digest));
    Ok(accept.expect("base64 is visible ASCII"))
}

/// The first extension on offer that the server supports; a value that is not text is ignored.
fn offered(headers: &HeaderMap) -> Option<Deflate> {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    Deflate::negotiate(values.iter().filter_map(|value| value.to_str().ok()))
}

impl IntoResponse for Handshake {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        let headers = response.headers_mut();
        if let Some(subprotocol) = self.named {
            let name = HeaderValue::from_static(subprotocol.name());
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        if let Some(deflate) = self.deflate {
            let value = HeaderValue::try_from(deflate.to_string());
            let value = value.expect("an agreement is visible ASCII");
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        response
    }
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadKey | Self::Body => StatusCode::BAD_REQUEST,
            // RFC 6455 4.4 and RFC 9110 15.5.22.
            Self::NoUpgrade | Self::OldHttp | Self::Removed { .. } | Self::Version => {
                StatusCode::UPGRADE_REQUIRED
            }
        };
        let headers = [
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, VERSION),
        ];
        (status, headers, format!("{self}\n")).into_response()
    }
}

/// Whether one of the comma-separated lists with this name contains the token, in any case.
fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let lists = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut tokens = lists.flat_map(|list| list.split(','));
    tokens.any(|candidate| candidate.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(changes: &[(&'static str, Option<&'static str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            "connection",
            HeaderValue::from_static("keep-alive, Upgrade"),
        );
        headers.insert("upgrade", HeaderValue::from_static("WebSocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        headers.insert("sec-websocket-key", key);
        for (name, value) in changes {
            headers.remove(*name);
            if let Some(value) = value {
                headers.append(*name, HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn accepts_the_example_of_rfc_6455() {
        let handshake = Handshake::parse(Version::HTTP_11, &headers(&[])).expect("valid");
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn parsed(
        changes: &[(&'static str, Option<&'static str>)],
    ) -> Result<Handshake, HandshakeError> {
        Handshake::parse(Version::HTTP_11, &headers(changes))
    }

    #[test]
    fn the_first_subprotocol_of_the_list_that_is_spoken_is_selected() {
        const JSON: &str = "busline.v1.json";
        const PLAIN: &str = "busline.v1.plain";
        for (offered, selected) in [
            (None, None),
            (Some(""), None),
            (Some("chat, superchat"), None),
            (Some("busline.v2.json"), None),
            (Some("bearer.a.b.c"), None),
            // Names are case-sensitive.
            (Some("BUSLINE.V1.JSON"), None),
            (Some("Busline.v1.json, busline.v1.Plain"), None),
            (Some("BUSLINE.V1.JSON, busline.v1.plain"), Some(PLAIN)),
            (Some(JSON), Some(JSON)),
            (Some(PLAIN), Some(PLAIN)),
            (Some("chat,busline.v1.json"), Some(JSON)),
            (Some("busline.v1.json, busline.v1.plain"), Some(JSON)),
            (Some("busline.v1.plain, busline.v1.json"), Some(PLAIN)),
            (Some("busline.v1.plain, bearer.a.b.c"), Some(PLAIN)),
            (Some("bearer.a.b.c,busline.v1.json"), Some(JSON)),
            // RFC 6455 forbids empty elements and spaces here, but both are harmless.
            (Some(" ,, busline.v1.json ,"), Some(JSON)),
            (Some("busline.v1.json, busline.v1.json"), Some(JSON)),
        ] {
            let handshake = parsed(&[("sec-websocket-protocol", offered)]).expect("valid");
            let subprotocol = selected.and_then(Subprotocol::named).unwrap_or_default();
            assert_eq!(handshake.subprotocol(), subprotocol, "{offered:?}");
            let response = handshake.into_response();
            let chosen = response.headers().get_all("sec-websocket-protocol");
            let chosen: Vec<_> = chosen.iter().collect();
            assert_eq!(chosen, Vec::from_iter(selected), "{offered:?}");
        }
    }

    #[test]
    fn subprotocols_may_be_listed_in_several_lines() {
        let mut headers = headers(&[("sec-websocket-protocol", Some("chat"))]);
        for line in [
            &b"\xe9, busline.v1.json"[..],
            b"busline.v1.plain",
            b"busline.v1.json",
        ] {
            let line = HeaderValue::from_bytes(line).expect("a header's value");
            headers.append("sec-websocket-protocol", line);
        }
        let handshake = Handshake::parse(Version::HTTP_11, &headers).expect("valid");
        assert_eq!(
            handshake.named,
            Some(Subprotocol::Plain),
            "the second line is no text"
        );
    }

    #[test]
    fn a_key_is_any_text_of_16_bytes() {
        for key in [
            "AQIDBAUGBwgJCgsMDQ4PEA==",
            // The example of RFC 6455 4.1, and all other values of the unused bits.
            "AQIDBAUGBwgJCgsMDQ4PEC==",
            "AQIDBAUGBwgJCgsMDQ4PEH==",
            "AQIDBAUGBwgJCgsMDQ4PEP==",
            "++++++++++++++++++++++==",
            "//////////////////////==",
        ] {
            let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
            let handshake = parsed(&[("sec-websocket-key", Some(key))]).expect("valid");
            assert_eq!(handshake.accept, BASE64.encode(digest), "{key}");
        }
        for key in [
            None,
            Some(""),
            Some("%"),
            Some("=="),
            Some("c2hvcnQ="),
            // 15, 17 and 18 bytes.
            Some("AQIDBAUGBwgJCgsMDQ4P"),
            Some("AQIDBAUGBwgJCgsMDQ4PEBE="),
            Some("AQIDBAUGBwgJCgsMDQ4PEBES"),
            // Padding that is missing, too short, too long or misplaced.
            Some("AQIDBAUGBwgJCgsMDQ4PEA"),
            Some("AQIDBAUGBwgJCgsMDQ4PEA="),
            Some("AQIDBAUGBwgJCgsMDQ4PEA==="),
            Some("AQIDBAUGBwgJCgsMDQ4PE==="),
            Some("AQIDBAUGBwgJCgsMDQ4P=A=="),
            Some("AQIDBAUGBwgJCgsMDQ4P=="),
            // Characters of another alphabet, or of no alphabet.
            Some("__________--__________=="),
            Some("AQIDBAUGBwgJCgsM DQ4PEA=="),
            Some("AQIDBAUGBwgJCgsMDQ4P!A=="),
            Some("AQIDBAUGBwgJCgsMDQ4PEA==,AQIDBAUGBwgJCgsMDQ4PEA=="),
        ] {
            let error = parsed(&[("sec-websocket-key", key)]);
            assert_eq!(error, Err(HandshakeError::BadKey), "{key:?}");
        }
        let mut two = headers(&[]);
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        two.append("sec-websocket-key", key);
        let error = Handshake::parse(Version::HTTP_11, &two);
        assert_eq!(error, Err(HandshakeError::BadKey));
    }

    #[test]
    fn a_body_that_is_announced_is_refused_whatever_else_is_there() {
        for value in ["1", "7", "18446744073709551615", "00", "0"] {
            let is_zero = value.trim_matches('0').is_empty();
            let parsed = parsed(&[("content-length", Some(value))]);
            assert_eq!(parsed.is_ok(), is_zero, "{value}: {parsed:?}");
        }
        for value in ["chunked", "gzip, chunked", "identity", ""] {
            let change = ("transfer-encoding", Some(value));
            assert_eq!(parsed(&[change]), Err(HandshakeError::Body), "{value}");
            let zero = ("content-length", Some("0"));
            assert_eq!(
                parsed(&[change, zero]),
                Err(HandshakeError::Body),
                "{value}"
            );
        }
        let mut two = headers(&[("content-length", Some("0"))]);
        two.append("content-length", HeaderValue::from_static("5"));
        let error = Handshake::parse(Version::HTTP_11, &two);
        assert_eq!(error, Err(HandshakeError::Body));
    }

    #[test]
    fn a_request_that_a_proxy_has_changed_is_told_so() {
        let removed = |header, token| HandshakeError::Removed { header, token };
        for (changes, error) in [
            (
                [("upgrade", None), ("connection", None)],
                removed("Upgrade", "websocket"),
            ),
            (
                [("upgrade", None), ("connection", Some("close"))],
                removed("Upgrade", "websocket"),
            ),
            (
                [("upgrade", Some("h2c")), ("connection", Some("Upgrade"))],
                removed("Upgrade", "websocket"),
            ),
            (
                [("upgrade", Some("websocket")), ("connection", None)],
                removed("Connection", "Upgrade"),
            ),
            (
                [
                    ("upgrade", Some("websocket")),
                    ("connection", Some("upgraded")),
                ],
                removed("Connection", "Upgrade"),
            ),
        ] {
            assert_eq!(parsed(&changes), Err(error.clone()), "{changes:?}");
            let old = Handshake::parse(Version::HTTP_10, &headers(&changes));
            assert_eq!(old, Err(HandshakeError::OldHttp), "{changes:?}");
            for error in [error, HandshakeError::OldHttp] {
                let text = error.to_string();
                assert!(text.contains("proxy_http_version 1.1;"), "{text}");
            }
        }
        let old = Handshake::parse(Version::HTTP_10, &headers(&[]));
        assert_eq!(old, Err(HandshakeError::OldHttp));
    }

    #[test]
    fn names_what_is_wrong() {
        // A request that does not ask for a WebSocket, with each HTTP version.
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let plain = Handshake::parse(version, &HeaderMap::new());
            assert_eq!(plain, Err(HandshakeError::NoUpgrade), "{version:?}");
        }
        for version in [None, Some("12"), Some("8"), Some("130")] {
            let change = ("sec-websocket-version", version);
            assert_eq!(
                parsed(&[change]),
                Err(HandshakeError::Version),
                "{version:?}"
            );
        }
    }
}
