//! `posthouse mail …`

mod cancel;
mod compose;
mod hold;
mod log;
mod pause;
mod pauses;
mod priority;
mod queue;
mod release;
mod reschedule;
mod resume;
mod retry;
mod send;
mod show;
mod suppress;
mod suppressed;
mod unsuppress;
mod why;
mod works;

use clap::Subcommand;

use crate::failure::Failure;

/// Send messages, see what became of them, and say what becomes of those that wait
#[derive(Debug, Subcommand)]
pub(super) enum Mail {
    Send(send::Send),
    Queue(queue::Queue),
    Show(show::Show),
    Log(log::Log),
    Why(why::Why),
    Hold(hold::Hold),
    Release(release::Release),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Reschedule(reschedule::Reschedule),
    Priority(priority::Priority),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Pauses(pauses::Pauses),
    Suppress(suppress::Suppress),
    Unsuppress(unsuppress::Unsuppress),
    Suppressed(suppressed::Suppressed),
}

impl Mail {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Send(send) => send.run(),
            Self::Queue(queue) => queue.run(),
            Self::Show(show) => show.run(),
            Self::Log(log) => log.run(),
            Self::Why(why) => why.run(),
            Self::Hold(hold) => hold.run(),
            Self::Release(release) => release.run(),
            Self::Cancel(cancel) => cancel.run(),
            Self::Retry(retry) => retry.run(),
            Self::Reschedule(reschedule) => reschedule.run(),
            Self::Priority(priority) => priority.run(),
            Self::Pause(pause) => pause.run(),
            Self::Resume(resume) => resume.run(),
            Self::Pauses(pauses) => pauses.run(),
            Self::Suppress(suppress) => suppress.run(),
            Self::Unsuppress(unsuppress) => unsuppress.run(),
            Self::Suppressed(suppressed) => suppressed.run(),
        }
    }
}
