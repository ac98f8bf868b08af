//! `cargo xtask fuzz`: runs the fuzz targets, each for so long, with debug assertions and the optimiser.

use anyhow::{Result, bail};
use clap::Args;

use crate::step::{command, run as run_command, step};

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes for each target.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Only these targets.
    #[arg(value_parser = NAMES)]
    targets: Vec<String>,
}

/// A fuzz target.
struct Target {
    name: &'static str,
    package: &'static str,
    /// What chooses the test binary.
    binary: &'static [&'static str],
    /// What chooses its test.
    test: &'static str,
}

/// Runs one after the other, and all of them even where one fails.
///
/// # Errors
/// Names those that failed; what failed them is printed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |target: &&Target| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == target.name)
    };
    let mut failed = Vec::new();
    for target in TARGETS.iter().filter(wanted) {
        let mut test =
            command("cargo", &["test", "--quiet", "--profile", "fuzz", "--package", target.package]);
        test.args(target.binary).args(["--", "--nocapture", target.test]);
        test.env("POSTHOUSE_FUZZ_MINUTES", options.minutes.to_string());
        if step(target.name, || run_command(&mut test).map(|()| "ok".into())).is_err() {
            failed.push(target.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

const FUZZ: &[&str] = &["--test", "fuzz"];

const TARGETS: [Target; 9] = [
    Target { name: "server", package: "smtp", binary: FUZZ, test: "server::" },
    Target { name: "client", package: "smtp", binary: FUZZ, test: "client::" },
    Target { name: "replies", package: "smtp", binary: FUZZ, test: "replies::" },
    Target { name: "addresses", package: "smtp", binary: FUZZ, test: "addresses::" },
    Target { name: "reports", package: "smtp", binary: FUZZ, test: "reports::" },
    Target { name: "envelope", package: "mail", binary: &["--lib"], test: "envelope::fuzz::" },
    Target { name: "spool", package: "queue", binary: FUZZ, test: "spool::" },
    Target { name: "link", package: "cluster", binary: &["--lib"], test: "wire::fuzz::" },
    Target { name: "config", package: "posthouse", binary: FUZZ, test: "any_file" },
];

const NAMES: [&str; TARGETS.len()] = {
    let mut names = [""; TARGETS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TARGETS[at].name;
        at += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_stands_in_the_page_on_hacking() {
        let page = include_str!("../../docs/HACKING.md");
        for name in NAMES {
            let mut rows = page.lines().filter(|line| line.starts_with("| `"));
            assert!(rows.any(|row| row.contains(&format!("`{name}`"))), "{name} has no row");
        }
    }
}
