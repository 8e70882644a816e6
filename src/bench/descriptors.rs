//! Open files: as many as the clients need, as far as the system allows.

use super::problem::Problem;

/// Those that are no client's: standard streams, the poll, what is read of /proc.
const OTHERS: u64 = 32;

/// Raises the limit of this process to what so many clients need.
///
/// # Errors
///
/// [`Problem::Descriptors`] if it may not be raised so far.
#[cfg(unix)]
pub(super) fn raise(clients: usize) -> Result<(), Problem> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let need = clients as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= need {
        return Ok(());
    }
    let maximum = limit.maximum.map_or(need, |maximum| maximum.max(need));
    let raised = Rlimit {
        current: Some(need),
        // Root may raise the hard limit; for others this is the one they have.
        maximum: limit.maximum.map(|_maximum| maximum),
    };
    setrlimit(Resource::Nofile, raised).map_err(|_errno| Problem::Descriptors {
        clients,
        need,
        limit: limit.maximum.unwrap_or(current),
    })
}

/// Does nothing: this system has no such limit, or none that could be raised.
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
