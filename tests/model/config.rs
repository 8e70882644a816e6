//! Settings: any arguments and any file are taken or refused with a word that says what to do.

use busline::server::{Sources, command};

const SERVICES: &[&str] = &["echo", "ping"];

/// The body of the fuzz target: one argument a line, then, after an empty line, the file.
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (arguments, file) = text.split_once("\n\n").unwrap_or((&text, ""));
    let arguments = std::iter::once("busline").chain(arguments.lines().take(16));
    let matches = match command(SERVICES).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error without a word");
            return;
        }
    };
    let sources = Sources::new(&matches, |_| None, SERVICES);
    match sources.with_file("busline.toml", file) {
        Ok(config) => {
            let limits = config.limits();
            assert!(
                limits.window.bytes >= limits.message_bytes,
                "the largest message fits"
            );
            let printed = config.print();
            let again = Sources::file("", SERVICES).with_file("", &printed);
            let again = again.expect("what is printed is valid");
            assert_eq!(again.limits(), limits, "and says the same:\n{printed}");
        }
        Err(problems) => assert!(
            problems.iter().all(|problem| !problem.is_empty()),
            "a problem without a word"
        ),
    }
}
