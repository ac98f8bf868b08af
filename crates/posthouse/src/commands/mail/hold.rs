//! `posthouse mail hold`

use clap::Args;

use super::works::{Words, Works};
use crate::{api::WorkAction, failure::Failure};

/// Hold works: they wait until they are released
///
/// Works that are being attempted are held if the attempt does not end them. It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Hold {
    #[command(flatten)]
    works: Works,
}

impl Hold {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.works.act(WorkAction::Hold, &Words { ask: "Hold", done: "held" })
    }
}
