//! `posthouse fleet-node`, which `demo` and `drill` start: a node that does not outlive them.

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::Up;
use crate::failure::Failure;

/// Run a node that is killed when the process ends that started it
#[derive(Debug, Args)]
pub(super) struct FleetNode {
    /// The process that started it
    #[arg(long, value_name = "PID")]
    parent: i32,
    #[command(flatten)]
    up: Box<Up>,
}

impl FleetNode {
    pub(super) fn run(self) -> Result<(), Failure> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
        // It may have ended before the system knew.
        if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != self.parent) {
            return Err(Failure::world("the process that started this node has ended"));
        }
        self.up.run()
    }
}
