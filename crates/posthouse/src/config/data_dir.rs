//! Where a node keeps its data when it is not told.

use std::{
    env,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

/// The data directory of a node that belongs to the machine.
const SYSTEM: &str = "/var/lib/posthouse";

/// There is no place for data: neither root, nor a home.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no default data directory: {SYSTEM} cannot be written and HOME is not set; use --data-dir")]
pub struct DataDirError;

/// The data directory when none is configured: `/var/lib/posthouse` for root and for whoever may
/// write there, else `posthouse` in the user's state directory (XDG Base Directory Specification).
///
/// # Errors
/// The user has no home.
pub fn default_data_dir() -> Result<PathBuf, DataDirError> {
    let system = Path::new(SYSTEM);
    if rustix::process::geteuid().is_root() || rustix::fs::access(system, Access::WRITE_OK).is_ok() {
        return Ok(system.to_owned());
    }
    state_dir(env::var_os("XDG_STATE_HOME").map(PathBuf::from), env::var_os("HOME").map(PathBuf::from))
}

fn state_dir(state: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, DataDirError> {
    let given = state.filter(|path| path.is_absolute());
    let at_home = || home.filter(|path| path.is_absolute()).map(|home| home.join(".local/state"));
    given.or_else(at_home).map(|state| state.join("posthouse")).ok_or(DataDirError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_data_in_the_state_directory() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(state_dir(path("/s"), path("/home/anna")), Ok("/s/posthouse".into()));
        assert_eq!(state_dir(path("s"), path("/home/anna")), Ok("/home/anna/.local/state/posthouse".into()));
        assert_eq!(state_dir(None, None), Err(DataDirError));
    }
}
