//! The machine that was measured, in a line.

use std::{fs, path::Path};

use anyhow::Result;

use crate::{
    place,
    step::{command, output},
};

/// Date, cores, model, memory, kernel and file system.
///
/// # Errors
/// The date cannot be told.
pub(crate) fn describe() -> Result<String> {
    let date = output(&mut command("date", &["+%-d %b %Y"]))?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown model");
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    Ok(format!(
        "{}; {cores} cores ({}), {} GiB, Linux {}, {}",
        date.trim(),
        model.trim_start_matches([' ', '\t', ':']),
        kib.div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim(),
        file_system(&place::bench()),
    ))
}

/// Warns where others keep the machine busy: figures taken then say little.
pub(crate) fn warn_if_busy() {
    let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok());
    if let Some(load) = load.filter(|load| *load > BUSY_LOAD) {
        eprintln!("xtask: the machine is busy (load {load}): figures taken now say little");
    }
}

/// The kind of file system that holds `folder`: that of the longest mount point above it.
fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    let nearest = above.max_by_key(|fields| fields[1].len());
    nearest.map_or_else(|| "unknown file system".into(), |fields| fields[2].to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A machine with more runnable processes than this over the last minute is not quiet.
const BUSY_LOAD: f64 = 1.0;
