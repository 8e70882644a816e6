//! The number of cases on which tests try a property.

use proptest::prelude::ProptestConfig;

/// The value of `PROPTEST_CASES`, or else 256, or fewer for an interpreter. Failing cases are not
/// saved to a file: a test with a name replaces them.
pub(crate) fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { default.cases },
        failure_persistence: None,
        ..default
    }
}
