//! The server's half of the opening handshake: RFC 6455 4.2.

use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

use crate::session::Dialect;

/// The GUID every server appends to the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version of the protocol there is.
const VERSION: &str = "13";

/// A client's valid wish to speak WebSocket, with what proves that we do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    accept: HeaderValue,
    dialect: Dialect,
}

/// What is wrong with a client's wish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the Sec-WebSocket-Key is not 16 bytes in base64")]
    BadKey,
    #[error("this is a WebSocket: connect to it with a WebSocket client")]
    NoUpgrade,
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
}

impl Handshake {
    /// Reads the request's head.
    pub(super) fn parse(version: Version, headers: &HeaderMap) -> Result<Self, HandshakeError> {
        if version < Version::HTTP_11
            || !lists(headers, header::CONNECTION, "upgrade")
            || !lists(headers, header::UPGRADE, "websocket")
        {
            return Err(HandshakeError::NoUpgrade);
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
                dialect: dialect(headers),
            }),
            (Some(_), Some(_)) | (None, _) => Err(HandshakeError::BadKey),
        }
    }

    /// What the client wants to speak, of what we do.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }
}

/// What proves that the key was read.
fn accept(key: &[u8]) -> Result<HeaderValue, HandshakeError> {
    match BASE64.decode(key) {
        Ok(nonce) if nonce.len() == 16 => {}
        Ok(_) | Err(_) => return Err(HandshakeError::BadKey),
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let accept = HeaderValue::try_from(BASE64.encode(digest));
    Ok(accept.expect("base64 is visible ASCII"))
}

/// The subprotocol the client has listed, if it is one of ours; others it lists in vain.
fn dialect(headers: &HeaderMap) -> Dialect {
    let json = Dialect::Json.name().unwrap_or_default();
    if lists(headers, header::SEC_WEBSOCKET_PROTOCOL, json) {
        Dialect::Json
    } else {
        Dialect::Plain
    }
}

impl IntoResponse for Handshake {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        if let Some(name) = self.dialect.name() {
            let name = HeaderValue::from_static(name);
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        response
    }
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadKey => StatusCode::BAD_REQUEST,
            // RFC 6455 4.4 and RFC 9110 15.5.22.
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
        };
        let headers = [
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, VERSION),
        ];
        (status, headers, format!("{self}\n")).into_response()
    }
}

/// Whether one of the comma-separated lists of this name has the token, in any case.
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

    #[test]
    fn the_subprotocol_is_chosen_from_the_list() {
        for (offered, dialect) in [
            (None, Dialect::Plain),
            (Some("chat, superchat"), Dialect::Plain),
            (Some("busline.v1.json"), Dialect::Json),
            (Some("chat,busline.v1.json"), Dialect::Json),
            (Some("busline.v2.json"), Dialect::Plain),
        ] {
            let headers = headers(&[("sec-websocket-protocol", offered)]);
            let handshake = Handshake::parse(Version::HTTP_11, &headers).expect("valid");
            assert_eq!(handshake.dialect(), dialect, "{offered:?}");
            let response = handshake.into_response();
            let chosen = response.headers().get("sec-websocket-protocol");
            assert_eq!(chosen.and_then(|name| name.to_str().ok()), dialect.name());
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let error = |changes: &[_]| {
            Handshake::parse(Version::HTTP_11, &headers(changes)).expect_err("invalid")
        };
        for change in [
            ("upgrade", None),
            ("upgrade", Some("h2c")),
            ("connection", None),
            ("connection", Some("keep-alive")),
            ("connection", Some("upgraded")),
        ] {
            assert_eq!(error(&[change]), HandshakeError::NoUpgrade, "{change:?}");
        }
        for version in [None, Some("12"), Some("8"), Some("130")] {
            let change = ("sec-websocket-version", version);
            assert_eq!(error(&[change]), HandshakeError::Version, "{version:?}");
        }
        for key in [
            None,
            Some(""),
            Some("c2hvcnQ="),
            Some("dGhlIHNhbXBsZSBub25jZQ"),
            Some("%"),
        ] {
            let change = ("sec-websocket-key", key);
            assert_eq!(error(&[change]), HandshakeError::BadKey, "{key:?}");
        }
        let old = Handshake::parse(Version::HTTP_10, &headers(&[]));
        assert_eq!(old, Err(HandshakeError::NoUpgrade));
        let mut two = headers(&[]);
        two.append(
            "sec-websocket-key",
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        assert_eq!(
            Handshake::parse(Version::HTTP_11, &two),
            Err(HandshakeError::BadKey)
        );
    }
}
