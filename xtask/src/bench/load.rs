//! The load: smtp-source at one end, smtp-sink and its counter at the other.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::{
    LOOK_EVERY,
    process::{Interrupt, Process},
};
use crate::place;

/// What smtp-source sends.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Bytes of each message.
    pub(crate) bytes: u64,
    /// Sessions at a time, each kept for all its messages.
    pub(crate) sessions: u32,
    /// Messages in all.
    pub(crate) messages: u64,
}

impl Load {
    /// Starts to send to a port on loopback.
    ///
    /// # Errors
    /// smtp-source cannot be run.
    pub(crate) fn send(&self, port: u16) -> Result<Process> {
        let mut source = tool("smtp-source");
        source.args(["-d", "-4", "-M", "source.bench.example"]);
        source.args(["-f", "from@bench.example", "-t", "to@bench.example"]);
        source.arg("-s").arg(self.sessions.to_string());
        source.arg("-m").arg(self.messages.to_string());
        source.arg("-l").arg(self.bytes.to_string());
        source.arg(format!("127.0.0.1:{port}"));
        Process::start("smtp-source", source)
    }
}

/// A running smtp-sink, whose counter is the truth about what was delivered.
pub(crate) struct Sink {
    _process: Process,
    port: u16,
    counters: NamedTempFile,
}

impl Sink {
    /// Starts a sink on a port of its own and waits until it listens.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn start(interrupt: &Interrupt) -> Result<Self> {
        let port = free_port()?;
        let counters = NamedTempFile::new_in(place::bench()).context("cannot make a file for the counter")?;
        let mut sink = tool("smtp-sink");
        sink.args(["-4", "-c", "-m", "1000"]);
        if rustix::process::geteuid().is_root() {
            sink.args(["-u", "nobody"]);
        }
        sink.arg(format!("127.0.0.1:{port}")).arg(BACKLOG).stdout(Stdio::from(counters.reopen()?));
        let mut process = Process::start("smtp-sink", sink)?;
        wait_until_listening("smtp-sink", port, &mut process, interrupt)?;
        Ok(Self { _process: process, port, counters })
    }

    /// Where it listens on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Messages taken since it was started.
    ///
    /// # Errors
    /// Its counters cannot be read.
    pub(crate) fn count(&self) -> Result<u64> {
        let mut file: &File = self.counters.as_file();
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(COUNTERS_TAIL)))?;
        let mut tail = String::new();
        file.read_to_string(&mut tail).context("the sink's counters are not text")?;
        Ok(last_count(&tail))
    }
}

/// Waits until something takes connections on a port of loopback.
///
/// # Errors
/// The process ended, or does not listen in good time.
pub(crate) fn wait_until_listening(
    what: &str,
    port: u16,
    process: &mut Process,
    interrupt: &Interrupt,
) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    interrupt.wait_for(&format!("{what} listens"), LOOK_EVERY, PATIENCE_WITH_A_START, || {
        process.expect_running()?;
        Ok(TcpStream::connect(address).ok().map(drop))
    })
}

/// A port of loopback that nobody listens on.
///
/// # Errors
/// There is none.
pub(crate) fn free_port() -> Result<u16> {
    // Below those that Linux gives to whoever asks for any (32768 and up, unless set otherwise): no connection is given it meanwhile.
    let some =
        std::iter::repeat_with(|| TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..32_000))));
    let listener = some.take(1000).find_map(Result::ok).context("no port is free on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

fn tool(name: &str) -> Command {
    Command::new(place::foreign().join("bin").join(name))
}

/// The count in the last whole line of counters: `sess=1 quit=0 mesg=42`, each ended by CR.
fn last_count(tail: &str) -> u64 {
    let whole = tail.rsplit_once('\r').map_or("", |(whole, _)| whole);
    let count = whole.rsplit_once("mesg=").map_or("0", |(_, count)| count);
    count.trim_end().parse().unwrap_or(0)
}

/// How long a program may take until it listens.
pub(crate) const PATIENCE_WITH_A_START: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted.
const BACKLOG: &str = "1000";

/// More than the longest two lines of counters.
const COUNTERS_TAIL: u64 = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_cut_in_the_middle_of_a_line_reads_as_the_line_before() {
        assert_eq!(last_count(""), 0);
        assert_eq!(last_count("sess=0 quit=0 mesg=4"), 0);
        assert_eq!(last_count("=0 quit=0 mesg=41\rsess=0 quit=0 mesg=42\rsess=0 quit=0 mesg=4"), 42);
    }
}
