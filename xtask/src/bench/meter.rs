//! What a server costs: CPU of it and of all it started, the ended ones included; memory; bytes written.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::process::wait_for_end;

/// Counts the CPU of a server's processes. What is still in its group when dropped is killed.
pub(crate) enum Meter {
    /// A control group of our own: the exact way.
    Group {
        /// Its folder.
        folder: PathBuf,
        /// Where it says how much was used.
        usage: Usage,
    },
    /// Sums over `/proc`, where no group can be made: to the clock tick, and blind to what an ended
    /// process left to nobody.
    Tree,
}

/// How a control group tells its CPU.
#[derive(Clone, Copy)]
pub(crate) enum Usage {
    /// Version 1: `cpuacct.usage`, nanoseconds.
    Cpuacct,
    /// Version 2: `usage_usec` in `cpu.stat`.
    CpuStat,
}

impl Meter {
    /// A meter at zero.
    pub(crate) fn new(name: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("posthouse-bench-{}-{number}-{name}", std::process::id());
        GROUP_ROOTS
            .iter()
            .filter(|(root, file, _)| Path::new(root).join(file).exists())
            .find_map(|(root, _, usage)| {
                let folder = Path::new(root).join(&name);
                fs::create_dir(&folder).ok().map(|()| Self::Group { folder, usage: *usage })
            })
            .unwrap_or(Self::Tree)
    }

    /// A command that runs `program` under this meter.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Tree => Command::new(program),
            Self::Group { folder, .. } => {
                let mut command = Command::new("sh");
                command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
                command.arg(folder.join("cgroup.procs")).arg(program);
                command
            }
        }
    }

    /// How the CPU is counted, for the report.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Group { usage: Usage::Cpuacct, .. } => "cpuacct of a control group",
            Self::Group { usage: Usage::CpuStat, .. } => "cpu.stat of a control group",
            Self::Tree => "utime and stime in /proc",
        }
    }

    /// The CPU used so far by `leader` and all that it started.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn used(&self, leader: Pid) -> Result<Duration> {
        match self {
            Self::Group { folder, usage: Usage::Cpuacct } => {
                let text = read(&folder.join("cpuacct.usage"))?;
                Ok(Duration::from_nanos(text.trim().parse().context("cpuacct.usage is not a number")?))
            }
            Self::Group { folder, usage: Usage::CpuStat } => {
                let text = read(&folder.join("cpu.stat"))?;
                let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                let micros = micros.context("cpu.stat has no usage_usec")?;
                Ok(Duration::from_micros(micros.parse().context("usage_usec is not a number")?))
            }
            Self::Tree => {
                let ticks: u64 = family(leader)?.iter().map(|stat| stat.ticks).sum();
                let per_second = rustix::param::clock_ticks_per_second();
                Ok(Duration::from_millis(ticks * 1000 / per_second))
            }
        }
    }

    /// The memory of all processes in bytes: shared pages count once, spread over those that share them.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub(crate) fn memory(&self, leader: Pid) -> Result<u64> {
        let pids: Vec<i32> = match self {
            Self::Group { folder, .. } => members(folder)?,
            Self::Tree => family(leader)?.iter().map(|stat| stat.pid).collect(),
        };
        // A process that ended meanwhile has no memory.
        let rollups =
            pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok());
        Ok(rollups.filter_map(|text| kib_of(&text, "Pss:")).sum::<u64>() * 1024)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Self::Group { folder, .. } = self else { return };
        // Its processes are all ours: the group was made for them. A round may meet some that forked meanwhile.
        for _ in 0..ROUNDS_OF_KILLING {
            for pid in members(folder).unwrap_or_default().into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
                wait_for_end(pid, PATIENCE_WITH_A_KILL);
            }
            if fs::remove_dir(&*folder).is_ok() {
                return;
            }
        }
        eprintln!("xtask: {} could not be removed", folder.display());
    }
}

/// The resident memory of one process in bytes.
///
/// # Errors
/// It has ended.
pub(crate) fn resident(pid: Pid) -> Result<u64> {
    let text = read(&PathBuf::from(format!("/proc/{}/status", pid.as_raw_nonzero())))?;
    Ok(kib_of(&text, "VmRSS:").context("the process has no memory left")? * 1024)
}

/// From now on the peak is that from now on.
///
/// # Errors
/// The system does not let us: proc_pid_clear_refs(5).
pub(crate) fn forget_peak(pid: Pid) -> Result<()> {
    let path = format!("/proc/{}/clear_refs", pid.as_raw_nonzero());
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// The most that the resident memory of one process has been, in bytes.
///
/// # Errors
/// It has ended.
pub(crate) fn peak(pid: Pid) -> Result<u64> {
    let text = read(&PathBuf::from(format!("/proc/{}/status", pid.as_raw_nonzero())))?;
    Ok(kib_of(&text, "VmHWM:").context("the process has no memory left")? * 1024)
}

/// The CPU that one process has used, to the clock tick.
///
/// # Errors
/// It has ended.
pub(crate) fn cpu(pid: Pid) -> Result<Duration> {
    let text = read(&PathBuf::from(format!("/proc/{}/stat", pid.as_raw_nonzero())))?;
    let ticks = parse_stat(&text).context("the process has no CPU time")?.ticks;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Bytes written so far to the device that holds `folder`, by anyone; nothing where that cannot be told.
pub(crate) fn written(folder: &Path) -> Option<u64> {
    let device = fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = text.split_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
    Some(sectors * 512)
}

fn members(folder: &Path) -> Result<Vec<i32>> {
    Ok(read(&folder.join("cgroup.procs"))?.lines().filter_map(|line| line.parse().ok()).collect())
}

struct Stat {
    pid: i32,
    parent: i32,
    ticks: u64,
}

/// `leader` and its descendants that run now, each with the ticks of itself and of the children it waited for.
fn family(leader: Pid) -> Result<Vec<Stat>> {
    let names =
        fs::read_dir("/proc").context("cannot list processes")?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_string_lossy().parse::<i32>().ok());
    let stats: Vec<Stat> =
        pids.filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect();
    let parents: HashMap<i32, i32> = stats.iter().map(|stat| (stat.pid, stat.parent)).collect();
    let leader = leader.as_raw_nonzero().get();
    let descends = |pid: i32| {
        std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).any(|ancestor| ancestor == leader)
    };
    Ok(stats.into_iter().filter(|stat| descends(stat.pid)).collect())
}

/// proc(5), `/proc/pid/stat`: the fields after the command's name, which may itself hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let pid = text.split_whitespace().next()?.parse().ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, ticks })
}

fn kib_of(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Where control groups may be, and a file that shows it.
const GROUP_ROOTS: [(&str, &str, Usage); 3] = [
    ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", Usage::Cpuacct),
    ("/sys/fs/cgroup/cpu,cpuacct", "cpuacct.usage", Usage::Cpuacct),
    ("/sys/fs/cgroup", "cgroup.controllers", Usage::CpuStat),
];

const ROUNDS_OF_KILLING: u32 = 10;

const PATIENCE_WITH_A_KILL: Duration = Duration::from_secs(2);

/// Kernel documentation, block/stat: the seventh field, sectors of 512 bytes.
const SECTORS_WRITTEN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = parse_stat("42 (a ) b) S 7 42 42 0 -1 4194560 100 200 0 0 10 20 3 4 20 0 1 0 99").unwrap();
        assert_eq!((stat.pid, stat.parent, stat.ticks), (42, 7, 37));
    }

    #[test]
    fn the_meter_counts_what_its_processes_used_also_the_ended_ones() {
        for meter in [Meter::new("test"), Meter::Tree] {
            let mut command = meter.command(Path::new("sh"));
            command
                .args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo; read wait"]);
            let mut child = command
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
            std::io::BufRead::read_line(&mut out, &mut line).unwrap();
            let pid = Pid::from_child(&child);
            assert!(meter.used(pid).unwrap() >= Duration::from_millis(20), "{}", meter.method());
            assert!(meter.memory(pid).unwrap() > 50_000, "{}", meter.method());
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
