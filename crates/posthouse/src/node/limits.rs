//! The descriptors that this process may have: each session, connection and file is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for all but sessions: connections to next hops, in use or kept, questions to name servers, the spool, the log,
/// the console.
pub(crate) const RESERVED: usize = 1500;
/// Sessions that are taken in however few descriptors there are.
const FEWEST: usize = 16;

/// Raises the limit as far as this process may; returns what it is then.
pub(super) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let now = getrlimit(Resource::Nofile).current;
    now.and_then(|now| usize::try_from(now).ok()).unwrap_or(usize::MAX)
}

/// How many sessions there are descriptors for, `wanted` at most.
pub(super) fn sessions(wanted: usize, descriptors: usize) -> usize {
    let room = descriptors.saturating_sub(RESERVED).max(descriptors / 4).max(FEWEST);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            "fewer sessions are taken in than limits.sessions says: raise the limit of open files (LimitNOFILE=, ulimit -n) to {}",
            wanted.saturating_add(RESERVED)
        );
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_descriptors_for_the_rest() {
        assert_eq!(sessions(10_000, 1_048_576), 10_000);
        assert_eq!(sessions(10_000, 1024), 256);
        assert_eq!(sessions(10_000, 4096), 4096 - RESERVED);
        assert_eq!(sessions(5, 1024), 5);
    }
}
