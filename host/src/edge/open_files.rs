//! How many files and connections the system lets this process have open.

/// Files that are not connections of clients: the database, functions, connections to others, and those that are turned away.
const RESERVED: usize = 128;

/// Raises the limit as far as the system allows, and says how many connections of clients fit under it.
pub fn connections() -> usize {
    limit().saturating_sub(RESERVED).max(1)
}

#[cfg(unix)]
fn limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Many systems give every process 1,024 and allow it a million, for programs that cannot count further.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn limit() -> usize {
    usize::MAX
}
