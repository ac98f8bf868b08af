//! The program as its operator meets it: what it says, shows and survives.

mod answers;
mod backup;
mod damage;
mod demo;
mod descriptors;
mod disk;
mod doctor;
mod health;
mod log;
mod notify;
mod pauses;
mod reload;
mod retention;
mod starts;
mod suppressed;
mod unit;
mod why;
mod works;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use testkit::{Moment, Move, Node, Peer, Setup, tools::Ran, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

/// A node whose spool is small, so that it starts quickly.
fn setup() -> Setup {
    Setup::new(PROGRAM).file("[spool]\nsegment = \"4MiB\"\n")
}

/// Whether a peer takes anything yet.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicBool>);

impl Mood {
    /// From now on it takes everything.
    fn brighten(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A peer that defers everything at first.
fn unwilling() -> (Peer, Mood) {
    let mood = Mood::default();
    let willing = mood.clone();
    let peer = Peer::start(move |moment| match moment {
        Moment::Recipient(_) if !willing.0.load(Ordering::SeqCst) => Move::Say("450 4.2.0 not yet".into()),
        _ => Move::Go,
    });
    (peer, mood)
}

/// Gives the node a short message by its command line; returns its id.
fn send(node: &Node, recipient: &str, body: &str) -> String {
    let sent =
        ["mail", "send", "--from", "a@example.com", "--to", recipient, "--subject", "Hi", "--body", body];
    node.json(&sent)["id"].as_str().expect("it has an id").to_owned()
}

/// Waits until so many works wait for their next try, and nobody holds them any more.
fn deferred(node: &Node, works: usize) {
    until(&format!("{works} works that are deferred"), || {
        let report = node.json(&["mail", "queue", "--all"]);
        let all = report["works"].as_array()?;
        (all.len() == works && all.iter().all(|work| work["reason"] == "deferred")).then_some(())
    });
}

/// The command failed with this code; it said one line that is wrong, and then what to do, unless that is nothing.
fn failed(ran: &Ran, code: i32, error: &str, hint: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
    let mut lines = vec![format!("error: {error}")];
    lines.extend((!hint.is_empty()).then(|| format!("hint: {hint}")));
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), lines);
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("it is read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
