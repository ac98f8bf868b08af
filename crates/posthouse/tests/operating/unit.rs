//! The unit that comes along: systemd takes it as it is, and it lets the node do little.

use std::fs;

use tempfile::TempDir;
use testkit::tools::{Ran, run, system};

const UNIT: &str = include_str!("../../../../packaging/systemd/posthouse.service");
const USERS: &str = include_str!("../../../../packaging/systemd/posthouse.sysusers");

/// The most that systemd may say a service can do, of 10.
const MOST_EXPOSED: f64 = 2.0;

/// Asks systemd-analyze about the unit, with the program where it is here.
fn analyze(arguments: &[&str]) -> Ran {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("posthouse.service");
    fs::write(&path, UNIT.replace("/usr/bin/posthouse", super::PROGRAM)).expect("the folder is ours");
    run(system("systemd-analyze").args(arguments).arg(&path), b"")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let ran = analyze(&["verify"]);
    // It looks at the machine's other units too, and may find fault with those.
    let ours: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("posthouse")).collect();
    assert_eq!((ran.code, ours), (Some(0), Vec::new()), "{}", ran.stderr);
}

#[test]
fn the_unit_exposes_little() {
    let shown = analyze(&["security", "--offline=yes", "--no-pager"]).done();
    let (_, rest) = shown.split_once("Overall exposure level for ").expect("it says how exposed it is");
    let (_, rest) = rest.split_once(": ").unwrap();
    let level: f64 = rest.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level > 0.0 && level <= MOST_EXPOSED, "{shown}");
}

#[test]
fn the_unit_runs_as_the_user_that_is_made_for_it_and_reloads() {
    let value = |key: &str| UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    assert!(USERS.contains(&format!("\nu {} - ", value("User"))), "{USERS}");
    assert_eq!((value("Type"), value("ExecReload")), ("notify", "/usr/bin/posthouse reload"));
}
