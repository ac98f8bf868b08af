//! `posthouse mail …`

mod compose;
mod log;
mod queue;
mod send;
mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// Send messages, and see what became of them
#[derive(Debug, Subcommand)]
pub(super) enum Mail {
    Send(send::Send),
    Queue(queue::Queue),
    Show(show::Show),
    Log(log::Log),
}

impl Mail {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Send(send) => send.run(),
            Self::Queue(queue) => queue.run(),
            Self::Show(show) => show.run(),
            Self::Log(log) => log.run(),
        }
    }
}
