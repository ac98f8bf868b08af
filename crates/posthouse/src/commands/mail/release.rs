//! `posthouse mail release`

use clap::Args;

use super::works::{Words, Works};
use crate::{api::WorkAction, failure::Failure};

/// Release works that are held or set aside: they wait for their time again
///
/// What is set aside because it is damaged is looked at again. It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Release {
    #[command(flatten)]
    works: Works,
}

impl Release {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.works.act(WorkAction::Release, &Words { ask: "Release", done: "released" })
    }
}
