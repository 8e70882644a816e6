//! Raises the limit of open files to the need of the clients, as far as the system allows.

use super::problem::Problem;

/// Open files besides clients: standard streams, the poll, files in /proc.
const OTHERS: u64 = 32;

/// Raises the limit of this process to the need of `clients` clients, if it is lower.
///
/// # Errors
///
/// [`Problem::Descriptors`] if the limit must not be raised that far.
#[cfg(unix)]
pub(super) fn raise(clients: usize) -> Result<(), Problem> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let need = clients as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(limit) = current.filter(|current| *current < need) else {
        return Ok(());
    };
    let raised = Rlimit {
        current: Some(need),
        // Root may raise the hard limit; for other users `max` leaves it or makes the call fail.
        maximum: maximum.map(|hard| hard.max(need)),
    };
    setrlimit(Resource::Nofile, raised).map_err(|_errno| Problem::Descriptors {
        clients,
        need,
        limit: maximum.unwrap_or(limit),
    })
}

/// Does nothing: this system has no such limit, or none that can be raised.
#[cfg(not(unix))]
pub(super) fn raise(_clients: usize) -> Result<(), Problem> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_told_with_what_is_needed() {
        raise(1).expect("it is no more than it has");
        let problem = raise(1 << 40)
            .expect_err("no system has so many")
            .to_string();
        assert!(
            problem.contains("1099511627808") && problem.contains("ulimit"),
            "{problem}"
        );
    }
}
