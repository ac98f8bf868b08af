//! What an idle session costs: memory with 2,000 of them after EHLO, less memory without.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

use super::{
    load::Sink,
    meter,
    posthouse::{self, Posthouse},
    process::Interrupt,
    server::{self, Server},
};

/// What idle sessions cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// How many were open.
    pub(crate) sessions: u32,
    /// Resident bytes for each.
    pub(crate) bytes_each: u64,
}

/// Opens idle sessions at a fresh node and measures the difference.
///
/// # Errors
/// The node does not run, or does not take that many sessions.
pub(crate) fn measure(up: &[String], interrupt: &Interrupt) -> Result<Idle> {
    let sink = Sink::start(interrupt)?;
    let node = Posthouse::start(&posthouse::program(), sink.port(), up, interrupt)?;
    // What the first sessions touch for good is not theirs.
    drop(open(WARM_UP, node.port(), interrupt)?);
    server::settle(&[&node], interrupt)?;
    let before = meter::resident(node.process().pid())?;
    let sessions = open(SESSIONS, node.port(), interrupt)?;
    server::settle(&[&node], interrupt)?;
    let after = meter::resident(node.process().pid())?;
    drop(sessions);
    let bytes_each = after.saturating_sub(before) / u64::from(SESSIONS);
    eprintln!("xtask Posthouse {SESSIONS} idle sessions: {before} → {after} bytes, {bytes_each} each");
    Ok(Idle { sessions: SESSIONS, bytes_each })
}

fn open(count: u32, port: u16, interrupt: &Interrupt) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|number| {
            interrupt.pause(Duration::ZERO)?;
            greet(number, port).with_context(|| format!("session {number} of {count}"))
        })
        .collect()
}

/// Opens a session from the loopback address whose turn it is, so that no limit per client is met.
fn greet(number: u32, port: u16) -> Result<TcpStream> {
    let client = Ipv4Addr::from(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number / SESSIONS_PER_CLIENT);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), PATIENCE_WITH_AN_ANSWER)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE_WITH_AN_ANSWER))?;
    expect(&stream, "220")?;
    stream.write_all(b"EHLO idle.bench.example\r\n")?;
    expect(&stream, "250")?;
    Ok(stream)
}

/// Reads one whole reply (RFC 5321, section 4.2.1: its last line has a space after the code).
fn expect(stream: &TcpStream, code: &str) -> Result<()> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if !line.starts_with(code) {
            bail!("the node answered {line:?}");
        }
        if !line[code.len()..].starts_with('-') {
            return Ok(());
        }
    }
    bail!("the node closed the session")
}

const SESSIONS: u32 = 2000;

const WARM_UP: u32 = 50;

const SESSIONS_PER_CLIENT: u32 = 10;

const PATIENCE_WITH_AN_ANSWER: Duration = Duration::from_secs(10);
