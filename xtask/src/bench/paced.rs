//! A sender that keeps a rate: each message is due at its time, and goes at once if that is over.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use socket2::{Domain, Socket, Type};

use super::process::Interrupt;

/// What is to be sent.
#[derive(Clone, Copy)]
pub(crate) struct Paced {
    /// Where it comes from: who it is for the node.
    pub(crate) client: Ipv4Addr,
    /// Messages in all.
    pub(crate) messages: usize,
    /// Messages a second; as fast as they are taken without it.
    pub(crate) rate: Option<f64>,
    /// For whom each message is, by its number.
    pub(crate) recipient: fn(usize) -> String,
}

impl Paced {
    /// Sends all to a node; returns when the first was due.
    ///
    /// # Errors
    /// The node does not take it, or we were interrupted.
    pub(crate) fn send(self, node: SocketAddr, interrupt: &Interrupt) -> Result<Instant> {
        let start = Instant::now();
        let senders: Vec<_> = (0..SESSIONS.min(self.messages))
            .map(|session| thread::spawn(move || self.session(node, session, start)))
            .collect();
        for sender in senders {
            while !sender.is_finished() {
                interrupt.pause(Duration::from_millis(5))?;
            }
            sender.join().map_err(|_| anyhow!("a sender panicked"))??;
        }
        Ok(start)
    }

    fn session(self, node: SocketAddr, session: usize, start: Instant) -> Result<()> {
        let mut stream = open(self.client, node)?;
        #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
        for number in (session..self.messages).step_by(SESSIONS) {
            if let Some(rate) = self.rate {
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                while let Some(early) =
                    due.checked_duration_since(Instant::now()).filter(|early| !early.is_zero())
                {
                    thread::park_timeout(early);
                }
            }
            hand_over(&mut stream, &(self.recipient)(number))?;
        }
        Ok(())
    }
}

/// Sends one message after the other until it is told to stop; returns how long the slowest took.
///
/// # Errors
/// The node does not take one.
pub(crate) fn longest_wait(node: SocketAddr, stop: &AtomicBool) -> Result<Duration> {
    let mut stream = open(Ipv4Addr::LOCALHOST, node)?;
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        hand_over(&mut stream, "somebody@probe.example")?;
        longest = longest.max(start.elapsed());
        thread::park_timeout(BETWEEN);
    }
    Ok(longest)
}

/// A session that is ready for messages.
pub(super) fn open(client: Ipv4Addr, node: SocketAddr) -> Result<BufReader<TcpStream>> {
    let mut stream = connect(client, node)?;
    reply(&mut stream, "220")?;
    stream.get_mut().write_all(b"EHLO sender.bench.example\r\n")?;
    reply(&mut stream, "250")?;
    Ok(stream)
}

/// One message, from MAIL to the reply that it is taken.
fn hand_over(stream: &mut BufReader<TcpStream>, recipient: &str) -> Result<()> {
    let commands = format!("MAIL FROM:<from@bench.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n");
    stream.get_mut().write_all(commands.as_bytes())?;
    for code in ["250", "250", "354"] {
        reply(stream, code)?;
    }
    stream.get_mut().write_all(TEXT)?;
    reply(stream, "250")
}

fn connect(client: Ipv4Addr, node: SocketAddr) -> Result<BufReader<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client, 0)).into())?;
    socket.connect(&node.into()).context("the node does not listen")?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Reads one whole reply, which has to have this code.
pub(super) fn reply(stream: &mut BufReader<TcpStream>, code: &str) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 || !line.starts_with(code) {
            bail!("the node answered {line:?}");
        }
        if !line[code.len()..].starts_with('-') {
            return Ok(());
        }
    }
}

/// Sessions at a time.
const SESSIONS: usize = 20;

const PATIENCE: Duration = Duration::from_secs(60);

/// A probe sends so often.
const BETWEEN: Duration = Duration::from_millis(2);

/// A short text.
const TEXT: &[u8] = b"Subject: fair\r\n\r\nThis is one of many.\r\n.\r\n";
