//! The metrics of joins and leaves.

use super::{Family, counters};
use crate::registry::{KindStatus, PresenceTold};

/// The families of the services and kinds of rooms that tell their clients of joins and leaves.
pub(super) fn families(services: &[(String, KindStatus)]) -> Vec<Family> {
    let told = |count: fn(PresenceTold) -> u64| {
        let services = services.iter();
        services
            .filter_map(|(name, status)| Some((name.clone(), count(status.presence?))))
            .collect::<Vec<_>>()
    };
    vec![
        counters(
            "presence_told_at_once",
            "Joins and leaves that rooms have told their clients at once",
            "service",
            told(|told| told.at_once),
        ),
        counters(
            "presence_told_together",
            "Joins and leaves that rooms have told later, several in one notice",
            "service",
            told(|told| told.together),
        ),
    ]
}
