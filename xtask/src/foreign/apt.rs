//! Debian's package tools: install where we may, download and unpack elsewhere.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::step::{command, output, run, works};

/// The package tools, and what this user may do with them.
pub(super) struct Apt {
    right: Right,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Root,
    Sudo,
    DownloadOnly,
}

impl Apt {
    /// The package tools of this machine.
    ///
    /// # Errors
    /// It has none; names what was wanted.
    pub(super) fn find(wanted: &str) -> Result<Self> {
        if !works(&mut command("apt-get", &["--version"])) {
            bail!("there is no apt-get here; install by hand what this needs: {wanted}");
        }
        let right = if rustix::process::geteuid().is_root() {
            Right::Root
        } else if works(&mut command("sudo", &["-n", "true"])) {
            Right::Sudo
        } else {
            Right::DownloadOnly
        };
        let apt = Self { right };
        if !has_lists()? {
            apt.update(wanted)?;
        }
        Ok(apt)
    }

    /// Whether packages can be installed.
    pub(super) fn may_install(&self) -> bool {
        self.right != Right::DownloadOnly
    }

    /// Installs packages.
    ///
    /// # Errors
    /// apt-get failed, also after its lists were brought up to date.
    pub(super) fn install(&self, packages: &[&str]) -> Result<()> {
        let install = || {
            let mut install = self.privileged(&["install", "--yes", "--no-install-recommends", "-qq"]);
            run(install.args(packages).stdout(Stdio::null()))
        };
        install().or_else(|_| {
            self.update(&packages.join(" "))?;
            install()
        })
    }

    /// Downloads a package and adds its files to `root`.
    ///
    /// # Errors
    /// It cannot be had, or not be unpacked.
    pub(super) fn unpack_into(&self, package: &str, root: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("cannot make a folder for a download")?;
        let download = || {
            let mut download =
                command("apt-get", &["download", "-qq", "-o", "APT::Sandbox::User=root", package]);
            run(download.current_dir(folder.path()))
        };
        download().or_else(|_| {
            self.update(package)?;
            download()
        })?;
        let archive = only_file(folder.path())?;
        make_merged_root(root).with_context(|| format!("cannot make {}", root.display()))?;
        // Not `dpkg -x`: it would put folders where Debian's merged root has links.
        let mut tar =
            Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&archive).stdout(Stdio::piped()).spawn()?;
        let files = tar.stdout.take().expect("it was piped just now");
        let unpacked = Command::new("tar")
            .args(["--extract", "--no-same-owner", "--keep-directory-symlink", "--directory"])
            .arg(root)
            .stdin(files)
            .status()?;
        if !tar.wait()?.success() || !unpacked.success() {
            bail!("cannot unpack {package} into {}", root.display());
        }
        Ok(())
    }

    /// The packages of shared libraries that a package depends on, but for that of C, which every machine has
    /// and of which two must not meet.
    ///
    /// # Errors
    /// apt-cache failed.
    pub(super) fn libraries_of(&self, package: &str) -> Result<Vec<String>> {
        let text = output(&mut command("apt-cache", &["show", "--no-all-versions", package]))?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let names = depends.split(',').filter_map(|each| each.split_whitespace().next());
        Ok(names.filter(|name| name.starts_with("lib") && *name != "libc6").map(str::to_owned).collect())
    }

    fn update(&self, wanted: &str) -> Result<()> {
        if self.right == Right::DownloadOnly {
            bail!("package lists are missing or stale; run: sudo apt-get update (wanted: {wanted})");
        }
        run(self.privileged(&["update", "-qq"]).stdout(Stdio::null()))
    }

    fn privileged(&self, arguments: &[&str]) -> Command {
        let mut apt = match self.right {
            Right::Sudo => command("sudo", &["-n", "env", QUIET, "apt-get"]),
            Right::Root | Right::DownloadOnly => command("env", &[QUIET, "apt-get"]),
        };
        apt.args(arguments);
        apt
    }
}

/// Whether apt-get was ever told what there is to download.
fn has_lists() -> Result<bool> {
    let lists = fs::read_dir("/var/lib/apt/lists").context("cannot read apt-get's package lists")?;
    let mut names = lists.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.any(|name| name.contains("_Packages")))
}

/// The links of Debian's merged root, so that what packages hold below `/lib` and `/bin` lands below `/usr`.
fn make_merged_root(root: &Path) -> std::io::Result<()> {
    for folder in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        if !root.join(folder).exists() {
            symlink(format!("usr/{folder}"), root.join(folder))?;
        }
    }
    Ok(())
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(folder)?.next().context("apt-get downloaded nothing")?;
    Ok(entry?.path())
}

const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";
