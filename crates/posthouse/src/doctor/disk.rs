//! The disk below the data directory: how long a sync takes, how much room there is, and whether it keeps its promises.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base::ByteSize;

use super::Finding;
use crate::config::Spool;

const CHECK: &str = "disk";
/// So many syncs are timed, each of one block.
const SYNCS: usize = 100;
const BLOCK: [u8; 4096] = [0x50; 4096];
/// A disk that takes longer in the middle makes every client wait.
const SLOW: Duration = Duration::from_millis(20);
/// A disk that takes longer now and then makes some of them wait.
const SLOW_AT_TIMES: Duration = Duration::from_millis(200);
/// No disk stores anything in less: it, or something between, does not do what it says.
const TOO_FAST: Duration = Duration::from_micros(15);

/// File systems that do not keep what was synced, or not always.
const UNSAFE: [(&str, &str); 8] = [
    ("tmpfs", "is memory: nothing survives a restart of the machine"),
    ("ramfs", "is memory: nothing survives a restart of the machine"),
    ("overlay", "is the layer of a container: it goes with the container"),
    ("nfs", "is on the network: locks and syncs are not what they are on a disk"),
    ("nfs4", "is on the network: locks and syncs are not what they are on a disk"),
    ("cifs", "is on the network: locks and syncs are not what they are on a disk"),
    ("smb3", "is on the network: locks and syncs are not what they are on a disk"),
    ("9p", "is of another machine: locks and syncs are not what they are on a disk"),
];

pub(super) fn check(data_dir: &Path, spool: &Spool) -> Vec<Finding> {
    let Some(dir) = data_dir.ancestors().find(|dir| dir.is_dir()) else {
        return vec![Finding::skipped(CHECK, format!("there is nothing at {}", data_dir.display()))];
    };
    vec![kind(dir), room(dir, spool), syncs(dir)]
}

fn kind(dir: &Path) -> Finding {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let Some(kind) = file_system(&mounts, &dir) else {
        return Finding::skipped(CHECK, "the system does not say of which kind the file system is");
    };
    match UNSAFE.iter().find(|(name, _)| *name == kind) {
        Some((_, why)) => Finding::problem(CHECK, format!("{} lies on {kind}, which {why}", dir.display()))
            .advice("put the data directory on a local disk (ext4, XFS, btrfs, ZFS)"),
        None => Finding::ok(CHECK, format!("{} lies on {kind}", dir.display())),
    }
}

/// The kind of the file system that a path lies on: proc_pid_mountinfo(5).
fn file_system<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then_some((point.len(), kind.split(' ').next()?))
    });
    // Of mounts on the same place the last one is seen.
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn room(dir: &Path, spool: &Spool) -> Finding {
    let free = match rustix::fs::statvfs(dir) {
        Ok(stat) => ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => {
            return Finding::problem(CHECK, format!("the room on the disk cannot be told: {error}"));
        }
    };
    judge_room(free, spool)
}

/// What so much room means to a node with these settings.
fn judge_room(free: ByteSize, spool: &Spool) -> Finding {
    let finding = format!("{} are free", ByteSize::mib(free.0 >> 20));
    let min = spool.min_free;
    if free < min {
        return Finding::problem(CHECK, finding)
            .advice(format!("make room: below spool.min-free ({min}) new mail is refused (452 4.3.1)"));
    }
    if free < spool.warn_free {
        return Finding::warning(CHECK, finding)
            .advice(format!("make room before spool.min-free ({min}) is reached and new mail is refused"));
    }
    Finding::ok(CHECK, finding)
}

fn syncs(dir: &Path) -> Finding {
    let times = match time_syncs(dir) {
        Ok(times) => times,
        Err(error) => {
            return Finding::skipped(CHECK, format!("a sync cannot be timed in {}: {error}", dir.display()));
        }
    };
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let (half, most) = (at(50), at(99));
    let finding = format!("a sync of 4 KiB takes {half:.1?} (p50), {most:.1?} (p99)");
    if half < TOO_FAST {
        return Finding::warning(CHECK, finding).advice(
            "no disk is so fast: make sure that a sync is not just promised (write cache, host of the VM)",
        );
    }
    if half > SLOW || most > SLOW_AT_TIMES {
        return Finding::warning(CHECK, finding)
            .advice("every 250 waits for one: look at what else uses this disk, or take a faster one");
    }
    Finding::ok(CHECK, finding)
}

/// How long each of some syncs takes, the shortest first: into a file that has its room already, as the spool's have.
fn time_syncs(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = Scratch(dir.join(format!("doctor-{}.tmp", std::process::id())));
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&path.0)?;
    for block in 0..SYNCS as u64 {
        file.write_all_at(&[0; BLOCK.len()], block * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for block in 0..SYNCS as u64 {
        let began = Instant::now();
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// A file that goes again, whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it was never made, it need not go.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn the_kind_of_a_file_system_is_that_of_the_mount_nearest_above() {
        let mounts = "22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      23 22 0:21 / /var rw - xfs /dev/sdb rw\n\
                      24 22 0:22 / /var/my\\040mail rw - nfs4 host:/x rw\n\
                      25 23 0:23 / /variety rw - tmpfs tmpfs rw\n";
        let kind = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(kind("/var/lib/posthouse"), Some("xfs"));
        assert_eq!((kind("/variety/a"), kind("/home/anna")), (Some("tmpfs"), Some("ext4")));
        assert_eq!(kind("/var/my mail/spool"), Some("nfs4"));
    }

    #[test]
    fn room_is_judged_by_what_the_node_refuses_mail_at() {
        let spool =
            Spool { min_free: ByteSize::mib(5 << 10), warn_free: ByteSize::mib(6 << 10), ..Spool::default() };
        let verdict = |mib: u64| judge_room(ByteSize::mib(mib), &spool).verdict;
        let verdicts = [3 << 10, (5 << 10) - 1, 5 << 10, (6 << 10) - 1, 6 << 10].map(verdict);
        let (problem, warning) = (Verdict::Problem, Verdict::Warning);
        assert_eq!(verdicts, [problem, problem, warning, warning, Verdict::Ok]);
    }

    #[test]
    fn syncs_are_timed_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let times = time_syncs(folder.path()).unwrap();
        assert!(times.len() == SYNCS && times[0] > Duration::ZERO && times.is_sorted());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
