//! A server under test, as the measurement sees it.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{
    meter::Meter,
    process::{Interrupt, Process},
};

/// A running server that relays everything to the sink.
pub(crate) trait Server {
    /// Where it takes mail on loopback.
    fn port(&self) -> u16;

    /// Its first process.
    fn process(&self) -> &Process;

    /// What counts its CPU.
    fn meter(&self) -> &Meter;

    /// Whether nothing is left to deliver.
    ///
    /// # Errors
    /// It cannot be told.
    fn queue_is_empty(&self) -> Result<bool>;
}

/// Waits until servers have done all they had put off: their queues are empty and their CPU rests.
///
/// # Errors
/// They are not quiet in good time, or cannot be asked.
pub(crate) fn settle(servers: &[&dyn Server], interrupt: &Interrupt) -> Result<()> {
    let used = || -> Result<Vec<Duration>> {
        servers.iter().map(|server| server.meter().used(server.process().pid())).collect()
    };
    let mut quiet = 0;
    let mut before = used()?;
    for _ in 0..WINDOWS {
        interrupt.pause(WINDOW)?;
        let after = used()?;
        let rest = after.iter().zip(&before).all(|(after, before)| *after - *before < RESTING);
        quiet = if rest { quiet + 1 } else { 0 };
        if quiet >= QUIET_WINDOWS {
            let mut empty = servers.iter().map(|server| server.queue_is_empty());
            if empty.try_fold(true, |all, empty| empty.map(|empty| all && empty))? {
                return Ok(());
            }
        }
        before = after;
    }
    bail!("the server is not quiet after {} s", WINDOW.as_secs() * u64::from(WINDOWS))
}

/// The CPU is looked at this often.
const WINDOW: Duration = Duration::from_millis(250);

/// So much CPU in a window (0.8 % of a core) is rest: timers tick.
const RESTING: Duration = Duration::from_millis(2);

/// So many windows in a row make quiet.
const QUIET_WINDOWS: u32 = 8;

/// So many windows are waited for quiet.
const WINDOWS: u32 = 720;
