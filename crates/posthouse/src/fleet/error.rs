//! What keeps a fleet from running.

use std::{fmt, io};

use crate::{control::ClientError, failure::Failure};

/// A fleet cannot run. Each is one plain line; [`hint`](Self::hint) says more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The system refused something.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// A node's data cannot be made.
    #[error("{0}")]
    Prepare(String),
    /// A node has ended though nobody had asked it to.
    #[error("{name} has ended by itself ({status}): {words}")]
    Ended {
        /// The node.
        name: String,
        /// How.
        status: String,
        /// Its last line.
        words: String,
    },
    /// A node has not come to run.
    #[error("{name} has not come to run: {words}")]
    Silent {
        /// The node.
        name: String,
        /// Its last line.
        words: String,
    },
    /// A node was to be started after the end.
    #[error("it has been ended")]
    Over,
    /// The manager did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Whoever started it wants it to end.
    #[error("interrupted")]
    Interrupted,
}

impl FleetError {
    pub(super) fn prepare(error: &dyn fmt::Display) -> Self {
        Self::Prepare(error.to_string())
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ended { .. } | Self::Silent { .. } => {
                Some("`posthouse doctor` looks at what a node needs of this machine".into())
            }
            Self::Client(error) => error.hint(),
            Self::System(_) | Self::Prepare(_) | Self::Over | Self::Interrupted => None,
        }
    }
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        let failure = Self::world(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
