//! The drill: a short one proves that nothing is lost, and leaves nothing behind.

use std::{fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Program, node::number, tools, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

/// The drill with these flags, with its own place for temporary folders.
fn drill(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("drill").args(flags).env("TMPDIR", folder.path());
    command
}

/// How many files and folders there are.
fn entries(folder: &TempDir) -> usize {
    fs::read_dir(folder.path()).expect("it is there").count()
}

/// The processes that have this on their command line.
fn processes(part: &str) -> usize {
    let of = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let lines = fs::read_dir("/proc").expect("it is there").flatten().map(of);
    lines.filter(|line| String::from_utf8_lossy(line).contains(part)).count()
}

#[test]
fn a_short_drill_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let flags = ["--seconds", "8", "--workers", "2", "--seed", "1", "--json"];
    let ran = tools::run(&mut drill(&folder, &flags), b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let report: Value = serde_json::from_str(&ran.stdout).expect("it is one object");
    let count = |field: &str| number(&report, field);
    assert!(count("accepted") > 100, "{report}");
    assert_eq!(count("delivered"), count("accepted"), "{report}");
    assert_eq!((count("lost"), count("queued"), count("bounced")), (0, 0, 0), "{report}");
    assert_eq!(report["duplicated"]["unexplained"], Value::Array(Vec::new()), "{report}");
    // What follows from the seed.
    let faults = report["faults"].as_array().expect("it is a list");
    assert!(faults.len() >= 2 && faults[0]["at_seconds"] == 1.5, "{report}");
    let nodes = report["nodes"].as_array().expect("it is a list");
    assert_eq!(nodes.len(), 3);
    assert!(
        nodes.iter().all(|node| number(node, "delivered") > 0 && number(node, "accepted") > 0),
        "{report}"
    );
    assert_eq!(entries(&folder), 0);
}

#[test]
fn an_interrupted_drill_leaves_no_process_and_no_folder() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().display().to_string();
    let drill = Program::start(&mut drill(&folder, &["--seconds", "60", "--workers", "1"]));
    until("a manager and a worker", || (processes(&place) == 2).then_some(()));
    drill.interrupt();
    let ran = drill.ended();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "error: interrupted\n"), "{}", ran.stdout);
    assert_eq!((processes(&place), entries(&folder)), (0, 0));
}

#[test]
fn a_drill_whose_terminal_is_closed_leaves_nothing_either() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().display().to_string();
    let drill = Program::start(&mut drill(&folder, &["--seconds", "60", "--workers", "1"]));
    until("a manager and a worker", || (processes(&place) == 2).then_some(()));
    drill.hang_up();
    assert_eq!(drill.ended().code, Some(1));
    assert_eq!((processes(&place), entries(&folder)), (0, 0));
}

#[test]
fn the_nodes_of_a_drill_that_is_killed_end_with_it() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().display().to_string();
    let drill = Program::start(&mut drill(&folder, &["--seconds", "60", "--workers", "1"]));
    until("a manager and a worker", || (processes(&place) == 2).then_some(()));
    // Dropping kills it.
    drop(drill);
    until("the end of its nodes", || (processes(&place) == 0).then_some(()));
}
