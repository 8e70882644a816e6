//! The bearer token of the clients, which is never printed.

use std::fmt;
use std::path::Path;

use super::problem::Problem;

/// The environment variable with the token.
pub(super) const VARIABLE: &str = "BENCH_TOKEN";

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token from a file, or else from the environment, or else none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the text is not a token.
    pub(super) fn find(file: Option<&Path>) -> Result<Option<Self>, Problem> {
        let (place, text) = match file {
            Some(file) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|error| Problem::TokenFile(place.clone(), error))?;
                (place, text)
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => (VARIABLE.to_owned(), text),
                Err(_unset) => return Ok(None),
            },
        };
        Self::parse(&text).map(Some).ok_or(Problem::Token(place))
    }

    /// Trims the text; returns a token if it can be part of a header.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self(text.to_owned()))
    }

    /// The text of the token, for the request.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = Token::parse("a.b-c\n").expect("it is one");
        assert_eq!(token.reveal(), "a.b-c");
        assert_eq!(format!("{token:?}"), "Token");
        for text in ["", " \n", "a b", "a\r\nHost: x", "\u{e9}"] {
            assert_eq!(Token::parse(text), None);
        }
    }
}
