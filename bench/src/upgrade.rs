//! The upgrade to WebSocket: the client's request and the server's response.

use std::fmt;

use thiserror::Error;

use super::target::Target;

/// The key of RFC 6455 1.3; a constant is enough, because there is no cache between generator and
/// server.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The response of a server to this key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest head of a response that is read, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest text of a response that is shown, in characters.
const SAID_CHARS_MAX: usize = 200;

/// The request for `path`.
pub(super) fn request(target: &Target, path: &str, token: Option<&str>) -> Vec<u8> {
    let host = target.authority();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{token}\r\n"
    )
    .into_bytes()
}

/// Why the upgrade failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// The server's response with another status.
    #[error("{0}")]
    Answer(Answer),
    /// The peer does not speak HTTP or WebSocket.
    #[error("the server there does not speak WebSocket")]
    Foreign,
}

/// A response with another status than 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    reason: String,
    retry_after: Option<String>,
    said: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {} {}", self.status, self.reason)?;
        if !self.said.is_empty() {
            write!(f, " ({})", self.said)?;
        }
        write!(f, ": {}", self.advice())?;
        match &self.retry_after {
            Some(seconds) => write!(f, "; it asks to wait for {seconds} s"),
            None => Ok(()),
        }
    }
}

impl Answer {
    /// Advice for the status.
    fn advice(&self) -> &'static str {
        match self.status {
            401 => "give a token with --token-file or the variable BENCH_TOKEN",
            403 => "this token, or this machine, is not allowed to use the service",
            404 => "choose one of its services with --service, or a path with --url",
            429 | 503 => {
                "it holds as many sessions or handshakes as it may (busline: --limits-sessions, \
                 --limits-sessions-per-address and others), the service has failed, or it stops"
            }
            400 | 426 => "this path wants something else than a plain WebSocket client",
            301 | 302 | 307 | 308 => "give the address that it points to with --url",
            _ => "look into the server's log",
        }
    }
}

/// Parses a response; returns the length of the head of a 101, or `None` if the head is incomplete.
///
/// # Errors
///
/// Any other response of the server.
pub(super) fn accepted(answer: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        let start = &b"HTTP/1.1 "[..answer.len().min(9)];
        let is_long = answer.len() > HEAD_BYTES_MAX;
        return match answer.starts_with(start) && !is_long {
            true => Ok(None),
            false => Err(Refusal::Foreign),
        };
    };
    let head = std::str::from_utf8(&answer[..end]).map_err(|_no_text| Refusal::Foreign)?;
    let mut lines = head.split("\r\n");
    let (status, reason) = status(lines.next().unwrap_or_default()).ok_or(Refusal::Foreign)?;
    let header = |name: &str| {
        let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    if status == 101 {
        let is_ours = header("Sec-WebSocket-Accept") == Some(ACCEPT);
        return match is_ours {
            true => Ok(Some(end + 4)),
            false => Err(Refusal::Foreign),
        };
    }
    Err(Refusal::Answer(Answer {
        status,
        reason: plain(reason),
        retry_after: header("Retry-After").map(plain),
        said: plain(said(&answer[end + 4..])),
    }))
}

fn status(line: &str) -> Option<(u16, &str)> {
    let rest = line.strip_prefix("HTTP/1.")?.get(2..)?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((status.parse().ok()?, reason))
}

/// The first line of a response's body, as far as it came with the head.
fn said(body: &[u8]) -> &str {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default().trim()
}

/// A text of the server, made safe for a terminal.
fn plain(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: &str, rest: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\n{rest}\r\n").into_bytes()
    }

    #[test]
    fn an_upgrade_is_known_by_its_key_and_not_before_it_is_whole() {
        let accept = "Upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let good = head("101 Switching Protocols", accept);
        for end in 0..good.len() {
            assert_eq!(accepted(&good[..end]), Ok(None), "{end}");
        }
        let more = [&good[..], b"\x81\x01a"].concat();
        assert_eq!(accepted(&more), Ok(Some(good.len())));
        let bad = head("101 Switching Protocols", "Sec-WebSocket-Accept: x\r\n");
        assert_eq!(accepted(&bad), Err(Refusal::Foreign));
    }

    #[test]
    fn what_else_is_answered_is_told_with_what_to_do() {
        for (status, advice) in [
            ("401 Unauthorized", "--token-file"),
            ("403 Forbidden", "not allowed"),
            ("404 Not Found", "--service"),
            ("503 Service Unavailable", "--limits-sessions"),
            ("500 Internal Server Error", "log"),
        ] {
            let mut answer = head(status, "Retry-After: 7\r\n");
            answer.extend(b"no \x1b[31mplace\nsecond line");
            let text = accepted(&answer).expect_err("it is none").to_string();
            for part in [status, advice, "wait for 7 s", "(no [31mplace)"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }

    #[test]
    fn what_is_no_http_is_foreign() {
        for answer in [&b"SSH-2.0-x"[..], b"\x15\x03\x01", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(accepted(answer), Err(Refusal::Foreign));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &vec![b'x'; HEAD_BYTES_MAX]].concat();
        assert_eq!(accepted(&endless), Err(Refusal::Foreign));
    }
}
