//! How many cases a property is tried on, for tests.

use proptest::prelude::ProptestConfig;

/// As many as `PROPTEST_CASES` says or 256, few for an interpreter; what failed is no file of its
/// own, but a test with a name.
pub(crate) fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { default.cases },
        failure_persistence: None,
        ..default
    }
}
