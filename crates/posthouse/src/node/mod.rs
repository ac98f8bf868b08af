//! The node: not assembled yet.

use crate::config::Config;

/// The node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("this build has no node in it")]
pub struct NodeError;

impl NodeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// It could not start, or had to stop.
pub async fn run(config: Config) -> Result<(), NodeError> {
    drop(config);
    Err(NodeError)
}
