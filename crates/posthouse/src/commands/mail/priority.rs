//! `posthouse mail priority`

use clap::Args;

use super::works::{Words, Works};
use crate::{
    api::{WorkAction, priority},
    failure::Failure,
};

/// Let works go before or behind others of their site
///
/// It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Priority {
    /// From -9, behind all, to 9, before all; 0 is usual
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = priority)]
    to: i8,
    #[command(flatten)]
    works: Works,
}

impl Priority {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let action = WorkAction::Prioritise { priority: self.to };
        self.works.act(action, &Words { ask: "Change the priority of", done: "changed" })
    }
}
