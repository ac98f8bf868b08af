//! How messages go out: to whom, over which connections, and what becomes of each recipient.

mod capabilities;
mod connections;
mod fates;
mod mail_hosts;
mod reports;
mod tls;
mod trouble;

use std::{collections::HashMap, sync::Mutex};

use serde_json::Value;
use testkit::{Node, Peer, Session, Setup, node::word};

/// A node that hands everything to this peer, and tries again soon.
fn setup(peer: &Peer) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(peer).flag("--retry", "100ms")
}

/// Sends a message from `a@example.com`; it has to be accepted.
fn send(node: &Node, recipients: &[&str], text: &[u8]) {
    send_from(node, "a@example.com", recipients, text);
}

/// Sends a message; it has to be accepted.
fn send_from(node: &Node, sender: &str, recipients: &[&str], text: &[u8]) {
    let mut session = Session::open(node.smtp());
    session.envelope(sender, recipients);
    let reply = session.data(text);
    assert_eq!(reply.code, 250, "{reply}");
}

/// What happened to a recipient by these records, in words.
fn words(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| word(record, "what")).collect()
}

/// Counts how often something has been seen.
#[derive(Debug, Default)]
struct Tally(Mutex<HashMap<String, usize>>);

impl Tally {
    /// Counts it once more; returns how often it was seen before.
    fn before(&self, what: &str) -> usize {
        let mut seen = self.0.lock().expect("no test panics with it");
        let count = seen.entry(what.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
}

/// A short message.
const SHORT: &[u8] = b"Subject: short\r\n\r\nhello\r\n";
