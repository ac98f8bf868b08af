//! `posthouse identity …`

mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// See who this node is to others
#[derive(Debug, Subcommand)]
pub(super) enum Identity {
    Show(show::Show),
}

impl Identity {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(),
        }
    }
}
