//! The accounts: what came in by the records, against what became of it, by the records and by the next hop.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde_json::Value;
use testkit::{Node, Taken, load::Sent, node::number, peer::Verdict, tools};

use crate::faults::Counts;

/// Most recipients that one fault may make come twice: what was in flight, or answered in its last moments.
const IN_FLIGHT: usize = 500;

/// What the records and the next hop say.
#[derive(Debug)]
pub(super) struct Accounts {
    accepted: u64,
    generated: u64,
    ended: u64,
    queued: u64,
    /// Recipients of the records with no end, or several, or no reception.
    askew: u64,
    /// Recipients that were answered 250 and are not in the records.
    lost: u64,
    /// Recipients that the records call delivered and that the next hop has not taken.
    claimed: usize,
    /// Recipients that came twice, and how many of these the records mark.
    duplicated: usize,
    marked: u64,
}

/// Counts in the message log; standard input names those who must be in it.
const READ_LOG: &str = "
import json, sqlite3, sys
log = sqlite3.connect(sys.argv[1])
one = lambda query: log.execute(query).fetchone()[0]
log.execute('CREATE TEMP TABLE answered (address TEXT)')
log.executemany('INSERT INTO answered VALUES (?)', ((line.strip(),) for line in sys.stdin))
log.execute('CREATE TEMP TABLE known AS SELECT DISTINCT address FROM record WHERE kind = 1')
log.execute('CREATE UNIQUE INDEX temp.by_address ON known (address)')
print(json.dumps({
    'accepted': one('SELECT count(*) FROM record WHERE kind = 1 AND source != 3'),
    'generated': one('SELECT count(*) FROM record WHERE kind = 1 AND source = 3'),
    'ended': one('SELECT count(*) FROM record WHERE kind = 3'),
    'marked': one('SELECT count(*) FROM record WHERE kind = 3 AND duplicate = 1'),
    'askew': one('''SELECT count(*) FROM (SELECT sum(kind = 1) AS came, sum(kind = 3) AS went FROM record
        GROUP BY message, work, recipient HAVING came != 1 OR went != 1)'''),
    'delivered': [row[0] for row in log.execute('''SELECT came.address FROM record AS went JOIN record AS came
        USING (message, work, recipient) WHERE went.kind = 3 AND went.outcome = 2 AND came.kind = 1''')],
    'lost': one('SELECT count(*) FROM answered WHERE address NOT IN (SELECT address FROM known)')}))";

/// That all have ended and the log knows it; else how things stand.
pub(super) fn nothing_waits(node: &Node) -> Result<(), String> {
    let status = node.json(&["status"]);
    if status["queued"] == 0 && status["records"]["behind"] == 0 { Ok(()) } else { Err(status.to_string()) }
}

impl Accounts {
    pub(super) fn read(node: &Node, answered: &[String], taken: &[Taken]) -> Self {
        let recipients = answered.iter().flat_map(|name| Sent::named(name).recipients);
        let input: String = recipients.map(|recipient| recipient + "\n").collect();
        let log = node.setup().data_dir().join("message-log.sqlite");
        let printed = tools::python(READ_LOG, &[&log.display().to_string()], input.as_bytes());
        let read: Value = serde_json::from_str(&printed).expect("the script prints JSON");
        Self {
            accepted: number(&read, "accepted"),
            generated: number(&read, "generated"),
            ended: number(&read, "ended"),
            queued: number(&node.json(&["status"]), "queued"),
            askew: number(&read, "askew"),
            lost: number(&read, "lost"),
            claimed: claimed(&read["delivered"], taken),
            duplicated: duplicated(taken),
            marked: number(&read, "marked"),
        }
    }

    pub(super) fn judge(&self, counts: &Counts) {
        assert_eq!(self.accepted + self.generated, self.ended + self.queued, "{self}");
        assert_eq!((self.askew, self.lost, self.claimed), (0, 0, 0), "{self}");
        assert!(self.duplicated <= counts.all() * IN_FLIGHT, "{self}");
        assert!(self.accepted > 0 && self.generated > 0, "{self}");
    }
}

/// The recipients of what the next hop has taken.
fn came(taken: &[Taken]) -> impl Iterator<Item = &str> {
    let delivered = |taken: &&Taken| taken.answer.is_some_and(|answer| answer.verdict == Verdict::Yes);
    taken.iter().filter(delivered).flat_map(|taken| &taken.recipients).map(String::as_str)
}

/// How many recipients are delivered to by the records alone.
fn claimed(delivered: &Value, taken: &[Taken]) -> usize {
    let came: HashSet<&str> = came(taken).collect();
    let delivered = delivered.as_array().expect("the script prints a list").iter();
    delivered.filter(|address| !came.contains(address.as_str().expect("it is a text"))).count()
}

/// How many recipients took a message more than once. Reports are not told apart by their recipients, who get many.
fn duplicated(taken: &[Taken]) -> usize {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for recipient in came(taken) {
        *times.entry(recipient).or_default() += usize::from(!recipient.starts_with("from."));
    }
    times.values().filter(|times| **times > 1).count()
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, generated, ended, queued, askew, lost, claimed, duplicated, marked } = self;
        write!(
            f,
            "{accepted} accepted + {generated} generated = {ended} ended + {queued} queued; {lost} lost, {claimed} delivered by the \
             records alone, {askew} without one end; {duplicated} duplicated ({marked} ends marked as possible ones)"
        )
    }
}
