//! A next hop that takes everything and notes for whom each message was; and one that says nothing.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// A host that takes everything, until the bench ends.
#[derive(Clone)]
pub(crate) struct Taker {
    port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Its first recipient.
    pub(crate) recipient: String,
    /// When it was answered.
    pub(crate) at: Instant,
}

impl Taker {
    /// Listens on loopback, on a port of its own.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn start() -> Result<Self> {
        Self::slow(Duration::ZERO)
    }

    /// The same, with so long a wait before it answers to a recipient and to the end of a text.
    ///
    /// # Errors
    /// There is no port.
    pub(crate) fn slow(wait: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a next hop")?;
        let taker = Self { port: listener.local_addr()?.port(), taken: Arc::default() };
        let taken = taker.taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = taken.clone();
                // A client that breaks off is none of our business.
                thread::spawn(move || drop(converse(stream, wait, &taken)));
            }
        });
        Ok(taker)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many messages were taken whose recipient fits, and when the last of them was.
    pub(crate) fn count(&self, fits: impl Fn(&str) -> bool) -> (usize, Option<Instant>) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = (0, None);
        for one in taken.iter().filter(|one| fits(&one.recipient)) {
            found = (found.0 + 1, Some(one.at));
        }
        found
    }

    /// All that was taken, in its order.
    pub(crate) fn all(&self) -> Vec<Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes messages over one connection.
fn converse(stream: TcpStream, wait: Duration, taken: &Mutex<Vec<Taken>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let (mut replies, mut line, mut recipient) =
        (b"220 taker.example ESMTP\r\n".to_vec(), Vec::new(), String::new());
    loop {
        if stream.buffer().is_empty() {
            stream.get_mut().write_all(&replies)?;
            replies.clear();
        }
        line.clear();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default() {
            b"EHLO" => replies.extend(b"250-taker.example\r\n250-8BITMIME\r\n250 PIPELINING\r\n"),
            b"RCPT" => {
                let text = String::from_utf8_lossy(&line);
                pass(wait);
                recipient = text.trim_start_matches("RCPT TO:<").trim_end_matches(">\r\n").to_owned();
                replies.extend(b"250 ok\r\n");
            }
            b"DATA" => {
                replies.extend(b"354 go on\r\n");
                stream.get_mut().write_all(&replies)?;
                replies.clear();
                while line != b".\r\n" {
                    line.clear();
                    if stream.read_until(b'\n', &mut line)? == 0 {
                        return Ok(());
                    }
                }
                let one = Taken { recipient: std::mem::take(&mut recipient), at: Instant::now() };
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                pass(wait);
                replies.extend(b"250 taken\r\n");
            }
            b"QUIT" => return stream.get_mut().write_all(b"221 bye\r\n"),
            _ => replies.extend(b"250 ok\r\n"),
        }
    }
}

fn pass(wait: Duration) {
    let end = Instant::now() + wait;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Takes connections on this address and says nothing, until the bench ends.
///
/// # Errors
/// The address is taken.
pub(crate) fn keep_silent(address: (Ipv4Addr, u16)) -> Result<()> {
    let listener = TcpListener::bind(address).context("no port for a silent host")?;
    thread::spawn(move || {
        let _kept: Vec<TcpStream> = listener.incoming().flatten().collect();
    });
    Ok(())
}
