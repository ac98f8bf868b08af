//! `cargo xtask soak`: kills, faults and restarts under load, for as long as one likes, on a small disk of its own.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    place,
    step::{command, run as run_command},
};

/// How long, and what.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Decides what happens when; the same gives the same faults, not the same moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the soak, which prints its accounts.
///
/// # Errors
/// Something was lost, or what was accepted is not what has ended.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_command(&mut command("cargo", &["test", "--package", "posthouse", "--test", "soak", "--no-run"]))?;
    let disk = place::bench().join("soak");
    fs::create_dir_all(&disk).context("cannot make target/bench/soak")?;
    let mut soak = if rustix::process::geteuid().is_root() {
        // The mount ends with the namespace.
        let mut own = command("unshare", &["--mount", "sh", "-c", ON_A_SMALL_DISK, "sh"]);
        own.arg(&disk).arg("cargo").env("POSTHOUSE_SOAK_SMALL_DISK", "yes").env("TMPDIR", &disk);
        own
    } else {
        eprintln!("xtask: without root there is no small disk, and it is not filled");
        command("cargo", &[])
    };
    soak.args(["test", "--quiet", "--package", "posthouse", "--test", "soak", "--", "--nocapture"]);
    soak.env("POSTHOUSE_SOAK_MINUTES", options.minutes.to_string());
    soak.env("POSTHOUSE_SOAK_SEED", options.seed.to_string());
    soak.env(place::FOREIGN_VARIABLE, place::foreign());
    run_command(&mut soak)
}

/// Mounts a small disk at the first argument, and becomes the others.
const ON_A_SMALL_DISK: &str = "mount -t tmpfs -o size=600m tmpfs \"$1\" && shift && exec \"$@\"";
