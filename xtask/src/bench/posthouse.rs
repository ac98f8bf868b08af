//! Posthouse of this checkout, as its users run it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    LOOK_EVERY, load,
    meter::Meter,
    process::{Interrupt, Process},
    server::Server,
};
use crate::{
    place,
    step::{Note, command, output, run},
};

/// A running node that relays to a sink. Ended, and its data removed, when dropped.
pub(crate) struct Posthouse {
    process: Process,
    meter: Meter,
    port: u16,
    program: PathBuf,
    data: TempDir,
}

/// Builds it for release.
///
/// # Errors
/// It does not build.
pub(crate) fn build() -> Result<Note> {
    run(&mut command("cargo", &["build", "--release", "--package", "posthouse"]))?;
    Ok("ok".into())
}

impl Posthouse {
    /// Starts a node on ports and a data directory of its own and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(program: &Path, sink: u16, more: &[String], interrupt: &Interrupt) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("posthouse-").tempdir_in(place::bench())?;
        let (port, console) = (load::free_port()?, load::free_port()?);
        let meter = Meter::new("posthouse");
        let mut up = meter.command(program);
        up.arg("up").arg("--data-dir").arg(data.path());
        up.args(["--smtp", &format!("127.0.0.1:{port}"), "--console", &format!("127.0.0.1:{console}")]);
        up.args([
            "--smarthost",
            &format!("127.0.0.1:{sink}"),
            "--relay-from",
            "127.0.0.0/8",
            "--log-level",
            "warn",
        ]);
        up.args(more);
        let mut process = Process::start("posthouse", up)?;
        interrupt.wait_for("posthouse is ready", LOOK_EVERY, load::PATIENCE_WITH_A_START, || {
            process.expect_running()?;
            Ok(is_ready(console).then_some(()))
        })?;
        Ok(Self { process, meter, port, program: program.to_owned(), data })
    }
}

impl Server for Posthouse {
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
        let mut status = command(&self.program.display().to_string(), &["status", "--json", "--data-dir"]);
        let text = output(status.arg(self.data.path()))?;
        let status: serde_json::Value =
            serde_json::from_str(&text).context("`posthouse status` is not JSON")?;
        Ok(status["queued"].as_u64().context("`posthouse status` does not say what is queued")? == 0)
    }
}

/// Whether the console says 200 to `/readyz`.
pub(crate) fn is_ready(console: u16) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, console))?;
        stream.set_read_timeout(Some(PATIENCE_WITH_AN_ANSWER))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = vec![0; b"HTTP/1.1 200".len()];
        stream.read_exact(&mut start)?;
        Ok(start)
    };
    ask().is_ok_and(|start| start.ends_with(b" 200"))
}

/// The program of this checkout.
pub(crate) fn program() -> PathBuf {
    place::root().join("target/release/posthouse")
}

const PATIENCE_WITH_AN_ANSWER: Duration = Duration::from_secs(2);
