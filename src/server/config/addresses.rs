//! Detects addresses that are given twice.

use super::admin::Admin;
use super::problem::Problem;
use super::schema::{ApiSection, ServerKeys};
use crate::server::Address;

/// Adds a problem for each address that is given twice.
pub(super) fn check(server: &ServerKeys, api: &ApiSection, problems: &mut Vec<Problem>) {
    let listen = server.listen.0.iter().map(|address| &address.0);
    let others = [&server.admin.0, &api.listen.0].into_iter();
    let others = others.filter_map(|admin| match admin {
        Admin::At(address) => Some(address),
        Admin::IfFree(_) | Admin::Off => None,
    });
    let mut before: Vec<String> = Vec::new();
    for address in listen.chain(others) {
        let places = places(address);
        if places.iter().any(|place| before.contains(place)) {
            let address = address.to_string();
            problems.push(Problem::Twice { address });
        }
        before.extend(places);
    }
}

/// The sockets that an address stands for, as far as its text tells; none if the system chooses the
/// port.
fn places(address: &Address) -> Vec<String> {
    match address {
        Address::Tcp { port: 0, .. } => Vec::new(),
        Address::Tcp { host, port } if host.eq_ignore_ascii_case("localhost") => {
            vec![format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
        }
        Address::Tcp { .. } => vec![address.to_string().to_ascii_lowercase()],
        #[cfg(unix)]
        Address::Unix(_) => vec![address.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use crate::server::Sources;

    #[test]
    fn an_address_that_is_given_twice_is_named() {
        for (text, twice) in [
            ("listen = [\"a.test:1\", \"A.test:1\"]", Some("A.test:1")),
            (
                "listen = [\"localhost:1\", \"127.0.0.1:1\"]",
                Some("127.0.0.1:1"),
            ),
            (
                "listen = [\"[::1]:1\", \"localhost:1\"]",
                Some("localhost:1"),
            ),
            (
                "listen = [\"a.test:1\"]\nadmin = \"a.test:1\"",
                Some("a.test:1"),
            ),
            ("listen = [\"unix:/a\", \"unix:/a\"]", Some("unix:/a")),
            (
                "admin = \"a.test:1\"\n[api]\nlisten = \"a.test:1\"",
                Some("a.test:1"),
            ),
            ("listen = [\"a.test:1\"]\nadmin = \"a.test:1?\"", None),
            ("listen = [\"localhost:0\", \"localhost:0\"]", None),
            (
                "listen = [\"a.test:1\", \"a.test:2\", \"0.0.0.0:1\", \"[::]:1\"]",
                None,
            ),
        ] {
            let config = Sources::file("b.toml", &[]).with_file("b.toml", text);
            let said = config.err().map(|problems| problems.to_string());
            let expected = twice.map(|address| format!("`{address}` is given twice"));
            let is_said = match (&said, &expected) {
                (Some(said), Some(expected)) => said.starts_with(expected),
                (said, expected) => said.is_none() && expected.is_none(),
            };
            assert!(is_said, "{text}: {said:?}");
        }
    }
}
