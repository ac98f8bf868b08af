//! What the system allows the node: descriptors and memory.

use std::fs;

use base::ByteSize;

use super::{Finding, Running};
use crate::{
    config::{Config, Role},
    node::limits::RESERVED,
};

const CHECK: &str = "limits";
/// What a node takes for all but the texts that it holds: caches, and an index of a million works.
const RESTING: ByteSize = ByteSize::mib(512);

pub(super) fn check(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    vec![descriptors(config, running), memory(config)]
}

fn descriptors(config: &Config, running: Option<&Running>) -> Finding {
    let process = running.and_then(|running| running.process);
    let path = process.map_or("/proc/self/limits".into(), |process| format!("/proc/{process}/limits"));
    let Some(most) = fs::read_to_string(&path).ok().and_then(|limits| open_files(&limits)) else {
        return Finding::skipped(CHECK, format!("{path} cannot be read"));
    };
    judge_files(most, u64::from(config.limits.sessions.number()) + RESERVED as u64)
}

fn judge_files(most: u64, wanted: u64) -> Finding {
    let finding = format!("{most} open files are allowed, and {wanted} are needed for limits.sessions");
    if most < wanted {
        return Finding::warning(CHECK, finding)
            .advice("fewer sessions are taken in: raise LimitNOFILE= of the unit, or `ulimit -Hn`");
    }
    Finding::ok(CHECK, finding)
}

/// The hard limit of open files: proc_pid_limits(5).
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn memory(config: &Config) -> Finding {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let Some(total) = total(&read("/proc/meminfo")) else {
        return Finding::skipped(CHECK, "the system does not say how much memory it has");
    };
    judge_memory(total, wanted(config))
}

/// How much memory a node of this configuration may take.
fn wanted(config: &Config) -> ByteSize {
    let cluster = &config.cluster;
    let of_its_role: &[ByteSize] = match cluster.role {
        Role::Standalone => &[],
        Role::Manager => &[cluster.credit_bytes],
        Role::Worker => &[cluster.credit_bytes, cluster.cache],
    };
    let texts =
        of_its_role.iter().fold(config.limits.receive_memory.0, |sum, more| sum.saturating_add(more.0));
    ByteSize(texts.saturating_add(RESTING.0))
}

fn judge_memory(total: u64, wanted: ByteSize) -> Finding {
    let finding = format!(
        "the machine has {} of memory, of which the node may take about {}",
        ByteSize::mib(total >> 20),
        ByteSize::mib(wanted.0 >> 20)
    );
    if wanted.0 > total / 10 * 8 {
        return Finding::warning(CHECK, finding)
            .advice("lower limits.receive-memory, or of a manager or a worker cluster.credit-bytes");
    }
    Finding::ok(CHECK, finding)
}

/// All memory, in bytes: proc_meminfo(5).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn the_hard_limit_and_all_memory_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(524_288));
        assert_eq!(open_files(&limits.replace("524288", "unlimited")), Some(u64::MAX));
        assert_eq!(total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
    }

    #[test]
    fn what_a_node_holds_of_others_counts_by_its_role() {
        let mut config = Config::default();
        let alone = wanted(&config);
        for (role, more) in [(Role::Manager, ByteSize::mib(256)), (Role::Worker, ByteSize::mib(320))] {
            config.cluster.role = role;
            assert_eq!(wanted(&config), ByteSize(alone.0 + more.0), "{role:?}");
        }
    }

    #[test]
    fn a_machine_with_too_little_is_warned_of() {
        assert_eq!(judge_files(1000, 1000).verdict, Verdict::Ok);
        let few = judge_files(999, 1000);
        assert_eq!(few.verdict, Verdict::Warning);
        assert_eq!(few.finding, "999 open files are allowed, and 1000 are needed for limits.sessions");
        assert_eq!(judge_memory(10 << 30, ByteSize::mib(8192)).verdict, Verdict::Ok);
        assert_eq!(judge_memory(10 << 30, ByteSize::mib(8193)).verdict, Verdict::Warning);
    }
}
