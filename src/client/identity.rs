//! Who a client is, as far as it had to say.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Who a client is: what its credentials say, once they have been believed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Whom they name; `None` for a client without credentials.
    pub subject: Option<Arc<str>>,
    /// All they say, as JSON; `None` where there is nothing. Any program may read it: a service
    /// takes from it what it needs with a JSON library of its choice.
    pub claims: Option<Arc<str>>,
    /// Until when they are good; `None` for ever.
    pub expires: Option<SystemTime>,
}

/// A client that has shown nothing; there need be only one.
pub(crate) static ANONYMOUS: Identity = Identity {
    subject: None,
    claims: None,
    expires: None,
};

impl Identity {
    /// A client that had to say nothing.
    pub fn anonymous() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Identity {
    /// The subject and the time; never the claims, which may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A secret text that shows who a client is, such as a JWT; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The token of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, to check it.
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
