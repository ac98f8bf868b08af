//! The demo: it shows itself, its sums add up, and nothing of it is left.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    Program, Session,
    node::number,
    tools::{self, Ran},
    until,
};

use super::{PROGRAM, names};

/// The demo with these flags, with its own place for temporary folders.
fn demo(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--smtp", "127.0.0.1:0"]).args(flags).env("TMPDIR", folder.path());
    command
}

/// It ended well, left nothing behind, and the last of its lines of JSON adds up; returns that.
fn sums(ran: &Ran, folder: &TempDir) -> Value {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let last = ran.stdout.lines().last().expect("there are lines");
    let sums: Value = serde_json::from_str(last).expect("each is an object");
    let count = |field: &str| number(&sums, field);
    assert!(count("accepted") > 0 && count("delivered") > 0, "{sums}");
    assert_eq!(
        count("accepted"),
        count("delivered") + count("bounced") + count("expired") + count("queued"),
        "{sums}"
    );
    sums
}

#[test]
fn the_demo_ends_by_itself_with_sums_that_add_up() {
    let folder = TempDir::new().unwrap();
    let ran = tools::run(&mut demo(&folder, &["--lasts", "3s", "--json"]), b"");
    let sums = sums(&ran, &folder);
    assert!(ran.stdout.lines().count() >= 3, "{}", ran.stdout);
    assert_eq!(sums["sessions"], 0);
}

#[test]
fn an_interrupted_demo_ends_with_the_same_sums() {
    let folder = TempDir::new().unwrap();
    let demo = Program::start(&mut demo(&folder, &["--json"]));
    let _ = demo.said("\"delivered\":");
    demo.interrupt();
    let _ = sums(&demo.ended(), &folder);
}

#[test]
fn the_demo_takes_a_message_of_ones_own_and_shows_its_sums_to_people() {
    let folder = TempDir::new().unwrap();
    let demo = Program::start(&mut demo(&folder, &["--rate", "50"]));
    let welcome = demo.said("Sample traffic comes in by SMTP at ");
    let address = welcome.split(' ').find_map(|word| word.parse().ok()).expect("it says where");
    let welcome = demo.said("posthouse mail log --data-dir ");
    let ask: Vec<&str> = welcome.split_whitespace().skip(1).collect();
    let mut session = Session::open(address);
    session.envelope("me@sender.example", &["you@example.com"]);
    assert_eq!(session.data(b"Subject: mine\r\n\r\nhello\r\n").code, 250);
    until("what became of it", || {
        let log = tools::run(Command::new(PROGRAM).args(&ask), b"").done();
        log.contains("  delivered  ").then_some(())
    });
    let _ = demo.said("queued");
    demo.interrupt();
    let ran = demo.ended();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let sums = ran.stdout.lines().find(|line| line.starts_with("accepted ")).expect("there are sums");
    let numbers: Vec<u64> = sums.split(' ').filter_map(|word| word.parse().ok()).collect();
    let (accepted, ends) = numbers.split_first().unwrap();
    assert_eq!((*accepted, ends.len()), (ends.iter().sum(), 4), "{sums}");
    assert!(!ran.stdout.contains("does not add up"), "{}", ran.stdout);
}
