//! `posthouse mail reschedule`

use base::Clock;
use clap::Args;

use super::works::{Words, Works};
use crate::{api::WorkAction, commands::when::Until, failure::Failure};

/// Try works at a time, and not before
///
/// It is counted first, and asked.
#[derive(Debug, Args)]
pub(in crate::commands) struct Reschedule {
    /// When: after so long, such as 2h, or at this time (RFC 3339)
    #[arg(long, value_name = "WAIT|TIME")]
    at: Until,
    #[command(flatten)]
    works: Works,
}

impl Reschedule {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let at = self.at.moment(Clock::system().now());
        self.works.act(WorkAction::Reschedule { at }, &Words { ask: "Reschedule", done: "rescheduled" })
    }
}
