//! The rules of backends, and of requests to services.

mod answers;
mod asked;
mod called;
mod ledger;

pub use self::asked::Asked;
pub use self::called::Called;
pub(crate) use self::ledger::{Ledger, Outcome, Told};
