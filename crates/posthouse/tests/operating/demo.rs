//! The demo: it shows itself, its sums add up, and nothing of it is left.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    Program, Session,
    node::{number, word},
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

/// It ended well, left nothing behind, and each of its lines of JSON adds up; returns them.
fn lines(ran: &Ran, folder: &TempDir) -> Vec<Value> {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    // The folder is removed after the last process has ended: each has files open in it.
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("each is an object")).collect();
    for line in &lines {
        let count = |field: &str| number(line, field);
        assert_eq!(count("accepted"), count("delivered") + count("bounced") + count("queued"), "{line}");
        assert_eq!(count("lost"), 0, "{line}");
    }
    lines
}

/// Of a line, what happened by then.
fn events(line: &Value) -> impl Iterator<Item = &str> {
    line["events"].as_array().expect("it is a list").iter().map(|event| word(event, "what"))
}

#[test]
fn the_demo_ends_by_itself_with_sums_that_add_up_and_has_killed_a_worker_meanwhile() {
    let folder = TempDir::new().unwrap();
    let ran = tools::run(&mut demo(&folder, &["--lasts", "4s", "--json"]), b"");
    let lines = lines(&ran, &folder);
    assert!(lines.len() >= 4, "{}", ran.stdout);
    let last = lines.last().expect("there are some");
    let nodes = last["nodes"].as_array().expect("it is a list");
    assert_eq!(nodes.iter().map(|node| word(node, "name")).collect::<Vec<_>>(), ["mx1", "mx2", "mx3"]);
    assert!(nodes.iter().all(|node| number(node, "delivered") > 0), "{last}");
    let happened: Vec<&str> = lines.iter().flat_map(events).collect();
    for part in ["is killed", "is silent", "is gone"] {
        assert!(happened.iter().any(|what| what.contains(part)), "{part}: {happened:?}");
    }
}

#[test]
fn at_a_terminal_a_key_kills_a_worker_and_all_that_follows_is_said_and_q_ends_the_demo() {
    let folder = TempDir::new().unwrap();
    let mut demo = Program::at_terminal(&demo(&folder, &["--rate", "50"]));
    let _ = demo.said("Any key kills a worker; q, or Ctrl-C, ends the demo.");
    demo.types(" ");
    let killed = demo.said("is killed with kill -9; it had about ");
    let name = killed.split_whitespace().nth(1).expect("it stands after the time").to_owned();
    for part in [
        "is silent: it gets no more work",
        "is gone: what it had",
        "is started again",
        "is back and gets work again",
    ] {
        let _ = demo.said(&format!("{name} {part}"));
    }
    demo.types("q");
    let ran = demo.ended();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let sums = ran.stdout.lines().rfind(|line| line.contains(" s: accepted ")).expect("there are sums");
    assert!(sums.contains(", lost 0, "), "{sums}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

/// What is on a terminal of so many columns and above it, after all that was written: it knows lines, the way back up, and to the end.
fn shown(written: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut row) = (vec![String::new()], 0_usize);
    let mut rest = written.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\n' => row += 1,
            '\x1b' => {
                let code: String = rest.by_ref().skip(1).take_while(char::is_ascii_digit).collect();
                // The letter is eaten with the digits: with a number it was A, without one J.
                match code.parse::<usize>() {
                    Ok(up) => row = row.saturating_sub(up),
                    Err(_) => lines.truncate(row),
                }
            }
            next => {
                if lines[row].chars().count() == columns {
                    row += 1;
                }
                lines.resize(lines.len().max(row + 1), String::new());
                lines[row].push(next);
            }
        }
        lines.resize(lines.len().max(row + 1), String::new());
    }
    lines
}

#[test]
fn the_table_at_a_terminal_is_drawn_over_itself_also_where_it_is_narrow() {
    for columns in [80, 60] {
        let folder = TempDir::new().unwrap();
        let mut sized = Command::new("sh");
        let size = format!("stty columns {columns} rows 24 && exec \"$@\"");
        sized.args(["-c", &size, "sh", PROGRAM, "demo", "--smtp", "127.0.0.1:0", "--lasts", "3s"]);
        let ran = Program::at_terminal(sized.env("TMPDIR", folder.path())).ended();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let draws = ran.stdout.matches("\x1b[J").count();
        assert!(draws > 5, "{ran:?}");
        let shown = shown(&ran.stdout, columns);
        let heads = shown.iter().filter(|line| line.starts_with("NODE  ROLE ")).count();
        assert_eq!(heads, 2, "once in the table and once in the sums: {shown:#?}");
    }
}

#[test]
fn an_interrupted_demo_ends_with_the_same_sums() {
    let folder = TempDir::new().unwrap();
    let demo = Program::start(&mut demo(&folder, &["--json"]));
    let _ = demo.said("\"delivered\":");
    demo.interrupt();
    let lines = lines(&demo.ended(), &folder);
    assert!(number(lines.last().expect("there are some"), "delivered") > 0);
}

#[test]
fn a_demo_whose_terminal_is_closed_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let mut shell = Command::new("python3");
    // It starts the demo at a terminal, reads of it until it runs, and closes the terminal.
    shell.args(["-c", CLOSES, PROGRAM, "demo", "--smtp", "127.0.0.1:0"]).env("TMPDIR", folder.path());
    let ran = tools::run(&mut shell, b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

/// Runs the program that its arguments name at a terminal, closes that once the program shows its table, and waits for its end.
const CLOSES: &str = "\
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
read = b''
while b'Any key kills a worker' not in read:
    read += os.read(terminal, 4096)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

#[test]
fn the_demo_takes_a_message_of_ones_own_and_shows_its_sums_to_people() {
    let folder = TempDir::new().unwrap();
    let demo = Program::start(&mut demo(&folder, &["--rate", "50"]));
    let welcome = demo.said("Sample traffic comes in by SMTP at ");
    let addresses: Vec<_> = welcome.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(addresses.len(), 3, "{welcome}");
    let welcome = demo.said("posthouse mail log --data-dir ");
    let ask: Vec<&str> = welcome.split_whitespace().skip(1).collect();
    // Through a worker; its manager knows of it.
    let mut session = Session::open(addresses[1]);
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
    let sums = ran.stdout.lines().find(|line| line.contains(" s: accepted ")).expect("there are sums");
    let (_, sums) = sums.split_once("accepted ").unwrap();
    let numbers: Vec<u64> = sums.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [accepted, delivered, bounced, queued, lost, _] = numbers[..] else { panic!("{sums}") };
    assert_eq!((accepted, lost), (delivered + bounced + queued, 0), "{sums}");
}
