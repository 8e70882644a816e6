//! Arguments: any of them are taken or refused with a line that says what to do, never a panic.

use busline::server::Config;
use clap::Parser;

/// The body of the fuzz target: one argument a line.
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments = text.lines().take(16);
    match Config::try_parse_from(std::iter::once("busline").chain(arguments)) {
        Ok(config) => {
            let limits = config.limits();
            assert!(
                limits.window.bytes >= limits.message_bytes,
                "the largest message fits"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error without a word"),
    }
}
