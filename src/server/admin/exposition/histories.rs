//! The metrics of the histories.

use super::{Family, counter, counters, gauge, gauges};
use crate::bus::HistoryCounts;

/// The families of all histories together: never by room.
pub(super) fn families(counts: &HistoryCounts) -> Vec<Family> {
    let dropped = counts.dropped;
    let by = |values: &[(&str, u64)]| {
        let values = values.iter().copied();
        values
            .map(|(label, value)| (label.to_owned(), value))
            .collect()
    };
    vec![
        gauges(
            "histories",
            "Histories of rooms that have clients, and of rooms that have none",
            "clients",
            by(&[
                ("some", counts.live as u64),
                ("none", counts.shelved as u64),
            ]),
        ),
        gauge(
            "history_bytes",
            "Bytes of memory that the messages of all histories hold",
            counts.bytes,
        ),
        counters(
            "history_dropped",
            "Messages that histories keep no more",
            "reason",
            by(&[
                ("evicted", dropped.evicted),
                ("expired", dropped.expired),
                ("removed", dropped.removed),
            ]),
        ),
        counter(
            "history_forgotten",
            "Histories whose epoch and offset were forgotten",
            counts.forgotten,
        ),
    ]
}
