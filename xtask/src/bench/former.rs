//! A former release, to be measured beside this checkout in one run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{
    place,
    step::{command, output, run},
};

/// The program of a former release: the file of this name, or what the git revision of this name builds.
///
/// # Errors
/// It is neither, or it does not build.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let file = Path::new(name);
    if file.is_file() {
        return Ok(file.canonicalize()?);
    }
    let commit = output(&mut command("git", &["rev-parse", "--verify", &format!("{name}^{{commit}}")]))
        .with_context(|| format!("{name} is neither a file nor a revision"))?;
    let folder = place::former().join(commit.trim());
    let program = folder.join("posthouse");
    if !program.exists() {
        build(commit.trim(), &folder)?;
    }
    Ok(program)
}

fn build(commit: &str, folder: &Path) -> Result<()> {
    let source = folder.join("source");
    fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
    let mut archive = command("git", &["archive", commit]).stdout(Stdio::piped()).spawn()?;
    let files = archive.stdout.take().expect("it was piped just now");
    let unpacked = command("tar", &["--extract", "--directory"]).arg(&source).stdin(files).status()?;
    if !archive.wait()?.success() || !unpacked.success() {
        bail!("cannot take {commit} out of the repository");
    }
    let target = place::former().join("target");
    let mut cargo = command("cargo", &["build", "--release", "--package", "posthouse"]);
    run(cargo.current_dir(&source).env("CARGO_TARGET_DIR", &target))?;
    fs::copy(target.join("release/posthouse"), folder.join("posthouse"))?;
    fs::remove_dir_all(source).context("cannot tidy up")
}
