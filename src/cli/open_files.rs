//! The limit of open files: a process takes what it may have, and says where that is too little.

/// Files that are no client's: standard streams, sockets that listen, what is read of the disk.
const OTHERS: u64 = 32;

/// Files of each thread: its sockets that listen, and what tells it of its sockets and wakes it.
const OF_EACH_THREAD: u64 = 16;

/// Raises the soft limit of this process to the hard one; what the limit is then, if there is any.
#[cfg(unix)]
pub(crate) fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A system may allow less than its hard limit says: then the limit stays as it was.
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_errno) => Some(current),
    }
}

/// Does nothing: this system has no such limit, or none that could be raised.
#[cfg(not(unix))]
pub(crate) fn raise() -> Option<u64> {
    None
}

/// What to say where so many sessions on so many threads need more files than this.
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
