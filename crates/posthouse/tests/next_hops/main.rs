//! Hostile next hops: slow ones, ones that close when they like, ones that lie, ones that talk too much or too little.
//!
//! Whatever they do, nothing is lost, nothing comes twice but what was cut off behind its final dot, the records tell what happened,
//! and mail to others goes on meanwhile.

mod closing;
mod lies;
mod replies;
mod tarpits;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Mutex,
};

use serde_json::Value;
use testkit::{
    Moment, Node, Peer, Session, Setup,
    node::{is_end, word},
    peer::Verdict,
};

/// A node between a hostile next hop and, for mail to `example.org`, a willing one.
struct Between {
    node: Node,
    hostile: Peer,
    willing: Peer,
}

impl Between {
    /// With this in its file; it tries again soon.
    fn start(hostile: Peer, file: &str) -> Self {
        let willing = Peer::willing();
        let node = Setup::new(env!("CARGO_BIN_EXE_posthouse"))
            .to(&hostile)
            .flag("--route", format!("example.org={}", willing.address()))
            .flag("--retry", "100ms")
            .file(file)
            .start();
        Self { node, hostile, willing }
    }

    /// Sends a message to each of so many recipients of the hostile next hop.
    fn send(&self, count: usize) {
        let mut session = Session::open(self.node.smtp());
        for number in 0..count {
            session.envelope(SENDER, &[&recipient(number)]);
            let reply = session.data(SHORT);
            assert_eq!(reply.code, 250, "{reply}");
        }
    }

    /// A message to the willing next hop goes through at once.
    fn others_go_on(&self) {
        let mut session = Session::open(self.node.smtp());
        session.envelope(SENDER, &["other@example.org"]);
        assert_eq!(session.data(SHORT).code, 250);
        testkit::until("the message to another next hop", || {
            let mut taken = self.willing.taken().into_iter();
            taken.any(|taken| taken.recipients == ["other@example.org"]).then_some(())
        });
    }

    /// Waits until everybody has an end, and makes sure that so many have the message, each once. Returns the log.
    fn all_delivered_once(&self, count: usize) -> Vec<Value> {
        let log = self.node.quiet();
        let ends: BTreeMap<&str, Vec<&str>> = ends(&log);
        for number in 0..count {
            assert_eq!(ends.get(recipient(number).as_str()), Some(&vec!["delivered"]), "{log:?}");
        }
        let mut came: HashMap<String, usize> = HashMap::new();
        let hostile = self.hostile.taken().into_iter();
        for taken in hostile.filter(|taken| taken.answer.is_some_and(|answer| answer.verdict == Verdict::Yes))
        {
            for recipient in taken.recipients {
                *came.entry(recipient).or_default() += 1;
            }
        }
        assert_eq!(came.len(), count, "{came:?}");
        assert!(came.values().all(|times| *times == 1), "{came:?}");
        assert_eq!(self.hostile.faults(), Vec::<String>::new());
        self.memory_is_bounded();
        log
    }

    fn memory_is_bounded(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.node.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        assert!(kib < MEMORY_KIB, "{kib} KiB of memory at its most");
    }
}

/// More memory than this is none of a node with a handful of messages.
const MEMORY_KIB: u64 = 256 << 10;

fn recipient(number: usize) -> String {
    format!("u{number}@example.net")
}

/// How each recipient ended by the log.
fn ends(log: &[Value]) -> BTreeMap<&str, Vec<&str>> {
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in log.iter().filter(|record| is_end(record)) {
        ends.entry(word(record, "recipient")).or_default().push(word(record, "what"));
    }
    ends
}

/// The records of attempts that did not end a recipient: reason and reply.
fn deferrals(log: &[Value]) -> Vec<(&str, &str)> {
    let deferred = log.iter().filter(|record| record["what"] == "deferred");
    deferred.map(|record| (word(record, "reason"), word(record, "reply"))).collect()
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

/// The step of a conversation that a moment belongs to.
fn step(moment: &Moment<'_>) -> &'static str {
    match moment {
        Moment::Connected => "connected",
        Moment::Hello(_) => "hello",
        Moment::Mail(_) => "mail",
        Moment::Recipient(_) => "recipient",
        Moment::Data => "data",
        Moment::Text => "text",
        Moment::StartTls => "starttls",
        Moment::Handshake => "handshake",
        Moment::Dot(_) => "dot",
    }
}

/// Who sends: reports to him go to the willing next hop.
const SENDER: &str = "a@example.org";

/// A short message.
const SHORT: &[u8] = b"Subject: short\r\n\r\nhello\r\n";
