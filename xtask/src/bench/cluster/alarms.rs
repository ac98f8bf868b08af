//! Liveness tuned to find a lost node within seconds: does it cry out under full load?

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    super::{
        load::{Load, Sink},
        process::{Interrupt, Process},
        targets::Verdict,
    },
    deaths::Liveness,
    group::{Group, Shape},
};

/// A beat each half second: suspect after one second, gone after two.
pub(super) const TUNED: Liveness = Liveness {
    name: "f: tuned, a worker is killed",
    file: "cluster.heartbeat = '500ms'\ncluster.suspect = '1s'\ncluster.gone = '2s'\ncluster.lease = '1500ms'\n\
           cluster.freeze-within = '500ms'\ncluster.after-loss = '10s'",
    gone: Duration::from_secs(2),
    within: Duration::from_secs(1),
};

/// Sends as fast as it goes through both workers for so many minutes.
///
/// # Errors
/// Something did not start, ended by itself, or was interrupted.
pub(super) fn under_full_load(
    program: &Path,
    minutes: f64,
    up: &[String],
    interrupt: &Interrupt,
) -> Result<(String, Vec<Verdict>)> {
    let sink = Sink::start(interrupt)?;
    let shape = Shape { program, workers: 2, next_hop: sink.port(), file: TUNED.file, level: "info", up };
    let group = Group::start(&shape, interrupt)?;
    let start = Instant::now();
    let (end, before) = (start + Duration::from_secs_f64(minutes * 60.0), sink.count()?);
    let load = Load { bytes: 10 * 1024, sessions: 10, messages: AT_ONCE };
    let mut sources: Vec<(u16, Process)> =
        group.doors().into_iter().map(|port| Ok((port, load.send(port)?))).collect::<Result<_>>()?;
    while Instant::now() < end {
        interrupt.pause(LOOK)?;
        for (port, source) in &mut sources {
            match source.ended()? {
                Some(status) if !status.success() => {
                    bail!("smtp-source failed ({status}); see what it printed")
                }
                Some(_) => *source = load.send(*port)?,
                None => {}
            }
        }
    }
    let took = start.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(sink.count()? - before)?) / took;
    drop(sources);
    group.wait_until_empty(interrupt)?;
    // A worker that ends its link because its own lease ran out cries out as well.
    let alarms = ["a node is silent", "the link to a node has ended"];
    let alarms: usize = alarms.iter().map(|alarm| group.manager.lines().all(alarm).len()).sum();
    let text = format!(
        "{NAME}: {alarms} false alarms in {minutes} minutes at {rate:.0}/s; a beat each 0.5 s, suspect after 1 s, gone after 2 s."
    );
    eprintln!("xtask {text}");
    let alarms = f64::from(u32::try_from(alarms)?);
    let unit = format!("false alarms in {minutes} minutes");
    Ok((text, vec![Verdict::at_most(NAME, &unit, alarms, 0.0)]))
}

const NAME: &str = "f: tuned, full load";

/// Messages that a source sends before the next one takes its place.
const AT_ONCE: u64 = 100_000;

const LOOK: Duration = Duration::from_millis(20);
