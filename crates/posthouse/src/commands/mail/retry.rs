//! `posthouse mail retry`

use clap::Args;

use super::works::{Words, Works};
use crate::{api::WorkAction, failure::Failure};

/// Try works now, whatever their plan says
///
/// Also where their hosts did not answer lately. It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Retry {
    #[command(flatten)]
    works: Works,
}

impl Retry {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.works.act(WorkAction::Retry, &Words { ask: "Retry now", done: "to be tried now" })
    }
}
