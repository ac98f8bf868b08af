//! Sample traffic: a few clients that send as people and programs do.

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
use tokio::time::MissedTickBehavior;

use crate::sender::Sender;

/// Traffic that flows until it is stopped.
#[derive(Debug)]
pub(super) struct Traffic {
    shutdown: Shutdown,
    sent: Arc<AtomicU64>,
}

/// How many clients send.
const CLIENTS: u32 = 4;
/// How long to wait before a session that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long clients may take to end.
const END: Duration = Duration::from_secs(2);
const CLIENT: &str = "client";

/// Recipients' domains, and how many of a hundred messages go there.
const DOMAINS: [(&str, u8); 5] =
    [("example.com", 60), ("example.net", 25), ("example.org", 10), ("busy.example", 4), ("gone.example", 1)];

impl Traffic {
    pub(super) fn start(to: SocketAddr, rate: u32) -> Self {
        let traffic = Self { shutdown: Shutdown::new(), sent: Arc::new(AtomicU64::new(0)) };
        let each = Duration::from_secs(u64::from(CLIENTS)) / rate.max(1);
        for _ in 0..CLIENTS {
            let (shutdown, sent) = (traffic.shutdown.clone(), traffic.sent.clone());
            let activity = shutdown.activity(CLIENT);
            tokio::spawn(async move {
                send(to, each, &shutdown, &sent).await;
                drop(activity);
            });
        }
        traffic
    }

    /// Ends the traffic; returns the recipients that were answered with a 250.
    pub(super) async fn stop(self) -> u64 {
        self.shutdown.stop();
        // One that hangs in its session ends with the node.
        let _ = self.shutdown.ended(CLIENT, END).await;
        self.sent.load(Ordering::SeqCst)
    }
}

async fn send(to: SocketAddr, each: Duration, shutdown: &Shutdown, sent: &AtomicU64) {
    let mut ticks = tokio::time::interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    while !shutdown.is_stopping() {
        ticks.tick().await;
        let sender = match &mut session {
            Some(sender) => sender,
            none => match Sender::connect(to).await {
                Ok(sender) => none.insert(sender),
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let (from, recipients, text) = message();
        match sender.send(from, recipients, &text).await {
            Ok(results) => {
                let taken = results.iter().filter(
                    |result| matches!(result, RecipientResult::Reply { reply, .. } if reply.is_positive()),
                );
                sent.fetch_add(taken.count() as u64, Ordering::SeqCst);
            }
            Err(_) => session = None,
        }
    }
}

/// A message of between 1 and 20 KiB for one recipient, now and then for three.
fn message() -> (ReversePath, Vec<Address>, Vec<u8>) {
    let address = |text: String| text.parse::<Address>().expect("it is well formed");
    let from = address(format!("sender{}@sender.example", fastrand::u8(..20)));
    let count = if fastrand::u8(..20) == 0 { 3 } else { 1 };
    let recipients: Vec<Address> =
        (0..count).map(|_| address(format!("user{}@{}", fastrand::u16(..1000), domain()))).collect();
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: Sample {number}\r\nMIME-Version: 1.0\r\n\r\n",
        to = recipients[0],
        number = fastrand::u32(..1_000_000),
    );
    for _ in 0..fastrand::usize(15..300) {
        text.push_str("All of this is made up, line by line, to show how mail goes through.\r\n");
    }
    (from.into(), recipients, text.into_bytes())
}

fn domain() -> &'static str {
    let mut at = fastrand::u8(..100);
    for (domain, share) in DOMAINS {
        if at < share {
            return domain;
        }
        at -= share;
    }
    DOMAINS[0].0
}
