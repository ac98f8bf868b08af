//! `posthouse mail cancel`

use clap::Args;

use super::works::{Words, Works};
use crate::{api::WorkAction, failure::Failure};

/// Cancel works: their recipients end here, and nobody is told
///
/// It cannot be undone. An attempt that has passed the point of no return goes on. It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Cancel {
    #[command(flatten)]
    works: Works,
}

impl Cancel {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.works.act(WorkAction::Cancel, &Words { ask: "Cancel", done: "cancelled" })
    }
}
