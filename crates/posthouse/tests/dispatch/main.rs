//! What goes when: throttles, turns, sites that rest, mail for later, priorities, warnings.

mod later;
mod rests;
mod sites;
mod throttles;

use serde_json::Value;
use testkit::{Node, Peer, Session, Setup, node::word};

/// A node that hands everything to this peer, with these tables in its file.
fn setup(peer: &Peer, tables: &str) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(peer).file(tables)
}

/// Sends messages from `a@example.com` over one session; each has to be accepted.
fn send(node: &Node, recipients: impl IntoIterator<Item = String>) {
    let mut session = Session::open(node.smtp());
    for recipient in recipients {
        session.envelope("a@example.com", &[&recipient]);
        let reply = session.data(SHORT);
        assert_eq!(reply.code, 250, "{reply}");
    }
}

/// What happened to a recipient by these records, in words.
fn words(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| word(record, "what")).collect()
}

/// A short message.
const SHORT: &[u8] = b"Subject: short\r\n\r\nhello\r\n";
