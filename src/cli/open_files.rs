//! The limit of open files: raises it, and warns if it is too low.

/// Open files besides clients: standard streams, listening sockets, files that are read.
const OTHERS: u64 = 32;

/// Open files of each thread: its listening sockets, its reactor and its waker.
const OF_EACH_THREAD: u64 = 16;

/// Raises the soft limit of this process to the hard limit, and returns the limit that then
/// applies; `None` if there is no limit.
#[cfg(unix)]
pub(crate) fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Some systems refuse to raise the limit to their hard limit: the soft limit then stays as it
    // was.
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_errno) => Some(current),
    }
}

/// Does nothing: this system has no such limit, or none that can be raised.
#[cfg(not(unix))]
pub(crate) fn raise() -> Option<u64> {
    None
}

/// The warning if the limit is too low for this many sessions on this many threads.
pub(crate) fn shortage(sessions: usize, threads: usize, limit: u64) -> Option<String> {
    let others = OTHERS + OF_EACH_THREAD * threads as u64;
    let left = limit.saturating_sub(others);
    (sessions as u64 > left).then(|| {
        format!(
            "limits.sessions is {sessions}, but this process may open {limit} files, of which \
             {left} are left for clients; further clients wait until others leave: raise the hard \
             limit of open files (LimitNOFILE= of a unit, --ulimit nofile= of a container, \
             `ulimit -Hn`), or lower limits.sessions"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_from_the_first_session_on_that_finds_no_file() {
        let limit = 1000 + OTHERS + 2 * OF_EACH_THREAD;
        assert_eq!(shortage(1000, 2, limit), None);
        let told = shortage(1001, 2, limit).expect("one is missing");
        for word in [
            "limits.sessions is 1001",
            "open 1064 files",
            "which 1000 are",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(shortage(1, 1, 0).is_some());
    }
}
