//! The identity of a client, as far as it had to prove one.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The identity of a client: the content of its credentials, after they were checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The subject of the credentials; `None` for a client without credentials.
    pub subject: Option<Arc<str>>,
    /// The claims of the credentials, as JSON; `None` without claims. A service parses them
    /// with a JSON library of its choice.
    pub claims: Option<Arc<str>>,
    /// The time at which the credentials expire; `None` for never.
    pub expires: Option<SystemTime>,
}

/// The identity of every client without credentials, shared by them.
pub(crate) static ANONYMOUS: Identity = Identity {
    subject: None,
    claims: None,
    expires: None,
};

impl Identity {
    /// Makes the identity of a client without credentials.
    pub fn anonymous() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Identity {
    /// Writes the subject and the time; never the claims, which may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A secret text that proves a client's identity, such as a JWT; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Makes a token of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text of the token, to check it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_token_nor_claims_are_ever_shown() {
        let token = Token::new("s3cret");
        let identity = Identity {
            subject: Some("alice".into()),
            claims: Some("{\"mail\":\"s3cret\"}".into()),
            expires: None,
        };
        let shown = format!("{token:?} {identity:?}");
        assert!(
            shown.contains("alice") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
