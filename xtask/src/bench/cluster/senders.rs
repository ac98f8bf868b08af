//! Clients that send until they are told to stop, whatever happens to the nodes, and note what was answered 250.

use std::{
    io::{BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::super::{
    paced::{open, reply},
    process::Interrupt,
};

/// Clients that send. Stopped when dropped.
pub(super) struct Senders {
    notes: Arc<Notes>,
    threads: Vec<JoinHandle<()>>,
}

/// What clients have seen.
#[derive(Default)]
struct Notes {
    stopped: AtomicBool,
    doors: Mutex<Vec<u16>>,
    accepted: Mutex<Vec<Accepted>>,
    broken: Mutex<Vec<String>>,
}

/// A message that was answered 250.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    /// Its recipient, who gets no other.
    pub(super) recipient: String,
    /// When it was answered.
    pub(super) at: Instant,
    /// How long the answer to its end took.
    pub(super) wait: Duration,
}

/// What came of all that was sent.
pub(super) struct Sent {
    /// The messages that were answered 250, in no order.
    pub(super) accepted: Vec<Accepted>,
    /// What became of sessions that did not go on.
    pub(super) broken: Vec<String>,
}

impl Senders {
    /// Starts so many sessions, spread over doors of loopback, that send so many messages a second together.
    pub(super) fn start(doors: Vec<u16>, sessions: u32, rate: f64) -> Self {
        let notes = Arc::new(Notes { doors: Mutex::new(doors), ..Notes::default() });
        let every = Duration::from_secs_f64(f64::from(sessions) / rate);
        let session = |number| {
            let notes = notes.clone();
            thread::spawn(move || notes.send(number, every))
        };
        Self { threads: (0..sessions).map(session).collect(), notes }
    }

    /// Whoever connects again does it here.
    pub(super) fn turn_to(&self, doors: Vec<u16>) {
        *held(&self.notes.doors) = doors;
    }

    /// How many messages were answered 250 so far.
    pub(super) fn count(&self) -> usize {
        held(&self.notes.accepted).len()
    }

    /// Stops once every message that was begun has its answer.
    ///
    /// # Errors
    /// A session has panicked, or we were interrupted.
    pub(super) fn stop(mut self, interrupt: &Interrupt) -> Result<Sent> {
        self.notes.stopped.store(true, Ordering::Relaxed);
        for session in self.threads.drain(..) {
            while !session.is_finished() {
                interrupt.pause(Duration::from_millis(5))?;
            }
            session.join().map_err(|_| anyhow!("a sender panicked"))?;
        }
        let accepted = std::mem::take(&mut *held(&self.notes.accepted));
        Ok(Sent { accepted, broken: std::mem::take(&mut *held(&self.notes.broken)) })
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        // They end with their session's next answer.
        self.notes.stopped.store(true, Ordering::Relaxed);
    }
}

impl Notes {
    fn send(&self, session: u32, every: Duration) {
        let text = text();
        let (mut stream, mut tries) = (None, session as usize);
        let mut due = Instant::now() + every.mul_f64(f64::from(session % SPREAD) / f64::from(SPREAD));
        let mut number = 0_u64;
        while !self.stopped.load(Ordering::Relaxed) {
            wait_until(due);
            // Who was held up does not catch up.
            due = (due + every).max(Instant::now());
            let recipient = format!("u{session}-{number}@load.example");
            // A message that got no answer is not sent again: it may be there or not.
            number += 1;
            match self.one(&mut stream, tries, &recipient, &text) {
                Ok(accepted) => held(&self.accepted).push(accepted),
                Err(error) => {
                    if stream.take().is_some() {
                        held(&self.broken).push(format!("{error:#}"));
                    }
                    tries += 1;
                    wait_until(Instant::now() + BEFORE_ANOTHER_TRY);
                }
            }
        }
    }

    fn one(
        &self,
        stream: &mut Option<BufReader<TcpStream>>,
        tries: usize,
        recipient: &str,
        text: &[u8],
    ) -> Result<Accepted> {
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let doors = held(&self.doors).clone();
                let door = doors[tries % doors.len()];
                stream.insert(open(Ipv4Addr::LOCALHOST, SocketAddr::from((Ipv4Addr::LOCALHOST, door)))?)
            }
        };
        let commands = format!("MAIL FROM:<from@bench.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n");
        stream.get_mut().write_all(commands.as_bytes())?;
        for code in ["250", "250", "354"] {
            reply(stream, code)?;
        }
        let sent = Instant::now();
        stream.get_mut().write_all(text)?;
        reply(stream, "250")?;
        let at = Instant::now();
        Ok(Accepted { recipient: recipient.to_owned(), at, wait: at.duration_since(sent) })
    }
}

/// A text of ten kibibytes, with its end.
fn text() -> Vec<u8> {
    let mut text = b"Subject: under load\r\n\r\n".to_vec();
    while text.len() < BYTES {
        text.extend_from_slice(LINE);
    }
    text.extend_from_slice(b".\r\n");
    text
}

fn wait_until(due: Instant) {
    while let Some(early) = due.checked_duration_since(Instant::now()).filter(|early| !early.is_zero()) {
        thread::park_timeout(early);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const BYTES: usize = 10 * 1024;

const LINE: &[u8] = b"A line of a message that is one of many, and no other one is like it here.\r\n";

const BEFORE_ANOTHER_TRY: Duration = Duration::from_millis(20);

/// Sessions begin spread over the time between two messages of one.
const SPREAD: u32 = 20;
