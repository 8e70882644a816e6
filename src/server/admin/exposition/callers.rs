//! The metrics of the API.

use super::{Family, Values, counter, counters, gauge};
use crate::caller::{CallerCounts, Method, Outcome, Turned};

/// The families of the calls of backends.
pub(super) fn families(counts: &CallerCounts) -> Vec<Family> {
    let commands = Method::ALL.into_iter().flat_map(|method| {
        Outcome::ALL.map(|outcome| {
            let labels = [method.name(), outcome.name()];
            (labels, counts.of(method, outcome))
        })
    });
    let turned = Turned::ALL.map(|reason| (reason.name().to_owned(), counts.turned_for(reason)));
    vec![
        Family {
            name: "api_commands",
            help: "Commands of backends, those of batches included",
            values: Values::Pairs(["method", "outcome"], commands.collect()),
        },
        counters(
            "api_turned_away",
            "Calls of backends that came to no command, and lists that were too long",
            "reason",
            turned.into(),
        ),
        gauge(
            "api_in_flight",
            "Calls of backends that are being served",
            counts.in_flight,
        ),
        gauge(
            "api_rpcs",
            "Calls of backends that wait for the answer of a service",
            counts.rpcs,
        ),
        gauge(
            "api_connections",
            "Connections that are kept for further calls of backends",
            counts.connections,
        ),
        counter(
            "api_connections_unkept",
            "Connections closed after a call because as many were kept as may be",
            counts.unkept,
        ),
        counter(
            "api_repeated",
            "Publishes that were done before under the same idempotency key",
            counts.repeated,
        ),
        gauge(
            "api_idempotency_keys",
            "Idempotency keys that are remembered",
            counts.remembered,
        ),
    ]
}
