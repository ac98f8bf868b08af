//! Debian's Postfix, unpacked and run beside whatever this machine has: the yardstick.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{
    load,
    meter::Meter,
    process::{Interrupt, Process},
    server::Server,
};
use crate::place;

/// A running Postfix that relays to a sink. Ended, and its queue removed, when dropped.
pub(crate) struct Postfix {
    process: Process,
    meter: Meter,
    port: u16,
    folder: TempDir,
}

impl Postfix {
    /// Starts it on a port and a queue of its own.
    ///
    /// # Errors
    /// It needs root, for a mount namespace and for users of its own; or it does not start.
    pub(crate) fn start(sink: u16, interrupt: &Interrupt) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("Postfix needs root to run; without it: cargo xtask bench relay --only null,posthouse");
        }
        let port = load::free_port()?;
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir_in(place::bench())?;
        for name in ["view", SPOOL, "disk/var/log"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let unpacked = place::foreign().join("postfix");
        let configuration = folder.path().join("configuration");
        configure(&unpacked, &configuration, port, sink).context("cannot configure Postfix")?;
        let meter = Meter::new("postfix");
        let mut command = meter.command(Path::new("unshare"));
        let beside = place::foreign().join("bin/beside");
        command.args(["--mount", "sh"]).args([&beside, &unpacked, &configuration, folder.path()]);
        let mut process = Process::start("Postfix", command)?;
        load::wait_until_listening("Postfix", port, &mut process, interrupt)?;
        Ok(Self { process, meter, port, folder })
    }
}

impl Server for Postfix {
    fn port(&self) -> u16 {
        self.port
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn queue_is_empty(&self) -> Result<bool> {
        for queue in QUEUES {
            if has_file(&self.folder.path().join(SPOOL).join(queue))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Writes what is laid over the unpacked files: Debian's settings, ours, and users that exist there alone.
fn configure(unpacked: &Path, to: &Path, port: u16, sink: u16) -> Result<()> {
    let etc = to.join("etc");
    let postfix = etc.join("postfix");
    fs::create_dir_all(&postfix)?;
    fs::write(to.join("start"), START)?;
    fs::write(postfix.join("main.cf"), MAIN_CF.replace("@SINK@", &sink.to_string()))?;
    let shared = unpacked.join("usr/share/postfix");
    let services = fs::read_to_string(shared.join("master.cf.dist")).context("cannot read master.cf.dist")?;
    fs::write(postfix.join("master.cf"), listen_on(&services, port)?)?;
    fs::copy(shared.join("dynamicmaps.cf"), postfix.join("dynamicmaps.cf"))?;
    let add = |file: &str, lines: &str| -> Result<()> {
        let host = fs::read_to_string(PathBuf::from("/etc").join(file))?;
        let ours = |line: &&str| !line.starts_with("postfix:") && !line.starts_with("postdrop:");
        let kept: Vec<&str> = host.lines().filter(ours).collect();
        Ok(fs::write(etc.join(file), format!("{}\n{lines}", kept.join("\n")))?)
    };
    add("passwd", "postfix:x:64001:64001::/var/spool/postfix:/usr/sbin/nologin\n")?;
    add("group", "postfix:x:64001:\npostdrop:x:64002:\n")
}

/// Debian's services with the SMTP listener moved to a port of loopback.
fn listen_on(services: &str, port: u16) -> Result<String> {
    let is_listener = |line: &str| line.split_whitespace().take(2).eq(["smtp", "inet"]);
    if services.lines().filter(|line| is_listener(line)).count() != 1 {
        bail!("master.cf.dist has not one SMTP listener");
    }
    let moved = services.lines().map(|line| match line.strip_prefix("smtp") {
        Some(rest) if is_listener(line) => format!("127.0.0.1:{port}{rest}\n"),
        _ => format!("{line}\n"),
    });
    Ok(moved.collect())
}

/// Whether any file lies in a folder or below it.
fn has_file(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        // A queue file that is moved while we look counts: the queue is not empty.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || has_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Its queue below its folder.
const SPOOL: &str = "disk/var/spool/postfix";

/// Where a message may wait. (`defer` holds the reasons, `bounce` those of reports.)
const QUEUES: [&str; 4] = ["maildrop", "incoming", "active", "deferred"];

const MAIN_CF: &str = include_str!("postfix/main.cf");

const START: &str = include_str!("postfix/start.sh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_moves_and_the_client_of_the_same_name_stays() {
        let services =
            "# smtp inet\nsmtp      inet  n  -  y  -  -  smtpd\nsmtp      unix  -  -  y  -  -  smtp\n";
        let moved = listen_on(services, 2599).unwrap();
        assert!(
            moved.contains("\n127.0.0.1:2599      inet  n  -  y  -  -  smtpd\nsmtp      unix"),
            "{moved}"
        );
        assert!(listen_on("smtp unix - - y - - smtp\n", 2599).is_err());
    }
}
