//! Clients of a fleet: they send as people and programs do, through all doors, and where one is shut they go to the next.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::Shutdown;
use smtp::{Address, ReversePath, client::RecipientResult};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Account, Key};
use crate::sender::Sender;

/// How fast clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many messages a second in all.
    Rate(u32),
    /// As fast as they are answered, so many sessions at a time.
    Sessions(u32),
}

/// Recipients' domains, and how many of a hundred messages go there.
pub(crate) type Sample = &'static [(&'static str, u8)];

/// Clients that send until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    shutdown: Shutdown,
    account: Arc<Account>,
}

/// How many clients share a rate, for each door.
const CLIENTS: usize = 4;
/// How long a client waits for an answer before it goes elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits before it goes to the next door.
const REST: Duration = Duration::from_millis(100);
/// Messages that it sends through another door before it tries its own again.
const ELSEWHERE: u32 = 20;
/// How long clients may take to end.
const END: Duration = Duration::from_secs(6);
const CLIENT: &str = "client";

/// A message to be sent.
struct Letter {
    from: ReversePath,
    recipients: Vec<Address>,
    text: Vec<u8>,
}

impl Load {
    /// Starts clients, as many at each door.
    pub(crate) fn start(doors: &[SocketAddr], pace: Pace, sample: Sample, account: &Arc<Account>) -> Self {
        let load = Self { shutdown: Shutdown::new(), account: account.clone() };
        account.begins();
        let (count, each) = match pace {
            Pace::Sessions(sessions) => (sessions as usize, None),
            Pace::Rate(rate) => {
                let count = CLIENTS * doors.len();
                let seconds = u64::try_from(count).unwrap_or(u64::MAX);
                (count, Some(Duration::from_secs(seconds) / rate.max(1)))
            }
        };
        let numbers = Arc::new(AtomicU64::new(0));
        for number in 0..count {
            let mut client = Client {
                doors: doors.to_vec(),
                home: number % doors.len(),
                at: number % doors.len(),
                elsewhere: 0,
                session: None,
                sample,
                numbers: numbers.clone(),
                account: account.clone(),
            };
            let shutdown = load.shutdown.clone();
            let activity = shutdown.activity(CLIENT);
            tokio::spawn(async move {
                let mut ticks = each.map(|each| ticks(each, number, count));
                while !shutdown.is_stopping() {
                    if let Some(ticks) = &mut ticks {
                        ticks.tick().await;
                    }
                    client.send().await;
                }
                drop(activity);
            });
        }
        load
    }

    /// Ends the clients, once each has its answer.
    pub(crate) async fn stop(self) {
        self.shutdown.stop();
        // One that hangs in its session ends with the process.
        let _ = self.shutdown.ended(CLIENT, END).await;
        self.account.intake_ends();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// The times at which one of so many clients sends, spread among those of the others.
fn ticks(each: Duration, number: usize, count: usize) -> Interval {
    let share = u32::try_from(number).unwrap_or(0) * (each / u32::try_from(count).unwrap_or(1));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + share, each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// One client, with a door that it prefers.
struct Client {
    doors: Vec<SocketAddr>,
    home: usize,
    at: usize,
    /// Messages that it may still send away from home.
    elsewhere: u32,
    session: Option<Sender>,
    sample: Sample,
    numbers: Arc<AtomicU64>,
    account: Arc<Account>,
}

impl Client {
    /// Sends one message. One that was not answered is not sent again: it may be there or not.
    async fn send(&mut self) {
        if self.at != self.home && self.elsewhere == 0 {
            (self.at, self.session) = (self.home, None);
        }
        self.account.tries();
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match tokio::time::timeout(PATIENCE, Sender::connect(self.doors[self.at])).await {
                Ok(Ok(session)) => session,
                _ => {
                    self.account.gave_up(0);
                    return self.go_on().await;
                }
            },
        };
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let Letter { from, recipients, text } = letter(number, self.sample);
        let count = recipients.len();
        let sent = tokio::time::timeout(PATIENCE, session.send(from, recipients, &text)).await;
        let Ok(Ok(results)) = sent else {
            self.account.gave_up(count);
            return self.go_on().await;
        };
        let taken: Vec<Key> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| is_taken(result))
            .map(|(recipient, _)| Key { message: number, recipient })
            .collect();
        if taken.is_empty() {
            self.account.gave_up(0);
            return self.go_on().await;
        }
        self.account.answered(self.at, taken.into_iter());
        self.session = Some(session);
        self.elsewhere = self.elsewhere.saturating_sub(1);
    }

    /// To the next door.
    async fn go_on(&mut self) {
        self.at = (self.at + 1) % self.doors.len();
        self.elsewhere = ELSEWHERE;
        tokio::time::sleep(REST).await;
    }
}

fn is_taken(result: &RecipientResult) -> bool {
    matches!(result, RecipientResult::Reply { reply, .. } if reply.is_positive())
}

/// A message of between 1 and 20 KiB for one recipient, now and then for three.
fn letter(number: u64, sample: Sample) -> Letter {
    let from: Address =
        format!("sender{}@sender.example", fastrand::u8(..20)).parse().expect("it is well formed");
    let count = if fastrand::u8(..20) == 0 { 3 } else { 1 };
    let recipients: Vec<Address> = (0..count)
        .map(|recipient| Key { message: number, recipient }.at(domain(sample, fastrand::u8(..100))))
        .collect();
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: Sample {number}\r\nMIME-Version: 1.0\r\n\r\n",
        to = recipients[0],
    );
    for _ in 0..fastrand::usize(15..300) {
        text.push_str("All of this is made up, line by line, to show how mail goes through.\r\n");
    }
    Letter { from: from.into(), recipients, text: text.into_bytes() }
}

/// The domain that stands at this one of a hundred places.
fn domain(sample: Sample, mut at: u8) -> &'static str {
    for (domain, share) in sample {
        if at < *share {
            return domain;
        }
        at -= share;
    }
    sample[0].0
}
