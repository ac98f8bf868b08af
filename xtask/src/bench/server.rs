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

/// Waits until a server has done all it had put off: its queue is empty and its CPU rests.
///
/// # Errors
/// It is not quiet in good time, or cannot be asked.
pub(crate) fn settle(server: &dyn Server, interrupt: &Interrupt) -> Result<()> {
    let mut quiet = 0;
    let mut before = server.meter().used(server.process().pid())?;
    for _ in 0..WINDOWS {
        interrupt.pause(WINDOW)?;
        let after = server.meter().used(server.process().pid())?;
        quiet = if after - before < RESTING { quiet + 1 } else { 0 };
        if quiet >= QUIET_WINDOWS && server.queue_is_empty()? {
            return Ok(());
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
