//! A stopped node's files damaged or mixed up: it starts and reports it, or says in one line why it does not.

use std::{fs, path::PathBuf};

use testkit::{Node, Peer, text::places, until};

use super::{Mood, failed, names, send, setup, unwilling};

/// A node that was stopped with a message queued for each of these recipients, and its peer.
fn stopped_with(recipients: &[&str]) -> (Node, Peer, Mood) {
    let (peer, mood) = unwilling();
    let mut node = setup().to(&peer).flag("--retry", "1s").start();
    for recipient in recipients {
        send(&node, recipient, &format!("the text for {recipient}"));
    }
    until("a deferral of each in the log", || {
        let log = node.log();
        let deferred = |to: &&str| log.iter().any(|of| of["recipient"] == **to && of["what"] == "deferred");
        recipients.iter().all(deferred).then_some(())
    });
    node.stop();
    mood.brighten();
    (node, peer, mood)
}

/// The recipients that the peer got a message for, in order.
fn got(peer: &Peer) -> Vec<String> {
    let mut got: Vec<String> = peer.taken().into_iter().flat_map(|taken| taken.recipients).collect();
    got.sort();
    got
}

/// Flips every bit of a place in the spool's segments, which is named by what stands there.
fn flip(node: &Node, what: &str, before: usize) {
    let folder = node.setup().data_dir().join("spool/segments");
    let mut flipped = 0;
    for path in names(&folder).iter().map(|name| folder.join(name)) {
        let mut bytes = fs::read(&path).expect("the node has stopped");
        for place in places(&bytes, what.as_bytes()) {
            bytes[place - before..place + what.len()].iter_mut().for_each(|byte| *byte = !*byte);
            flipped += 1;
        }
        fs::write(&path, bytes).expect("the node has stopped");
    }
    assert!(flipped > 0, "{what} is nowhere in the spool");
}

/// All bytes of the spool's segments.
fn segments(node: &Node) -> Vec<Vec<u8>> {
    let folder = node.setup().data_dir().join("spool/segments");
    names(&folder).iter().map(|name| fs::read(folder.join(name)).expect("the node has stopped")).collect()
}

#[test]
fn a_damaged_text_is_set_aside_and_never_delivered_and_the_others_go() {
    let (mut node, peer, _) = stopped_with(&["1@example.net", "2@example.net", "3@example.net"]);
    flip(&node, "the text for 2@example.net", 0);
    let before = segments(&node);
    let found = node.command(&["doctor", "--json"]).stdout;
    assert!(found.contains("are not what was written"), "the stopped node's spool is read: {found}");
    assert!(segments(&node) == before, "and left as it is");
    node.restart();
    assert!(node.said("spool damaged").contains("not what was written"));
    let work = until("the damaged one set aside and the others gone", || {
        let works = node.json(&["mail", "queue", "--all"])["works"].clone();
        let works = works.as_array().cloned().unwrap_or_default();
        (works.len() == 1 && works[0]["reason"] == "damaged").then(|| works[0].clone())
    });
    assert_eq!(work["last_reply"], "450 4.2.0 not yet", "its words can be read");
    assert_eq!(got(&peer), ["1@example.net", "3@example.net"]);
    let metrics = node.get("/metrics");
    assert!(!metrics.contains("\nposthouse_spool_damaged 0\n"), "{metrics}");
    // It is still there, and still damaged, after another start.
    node.stop();
    node.restart();
    assert_eq!(node.json(&["status"])["queued"], 1);
    send(&node, "4@example.net", "new");
    until("the new one at the peer", || (peer.count() == 3).then_some(()));
}

#[test]
fn a_record_that_cannot_be_read_at_all_is_reported_and_the_others_go() {
    let (mut node, peer, _) = stopped_with(&["1@example.net", "2@example.net", "3@example.net"]);
    // The frame's head stands before its words; that of the first message follows nothing that matters.
    flip(&node, "the text for 1@example.net", 500);
    node.restart();
    assert!(node.said("spool damaged").contains("cannot be read"));
    until("the others at the peer", || (peer.count() == 2).then_some(()));
    node.counts("queued", 0);
    assert_eq!(got(&peer), ["2@example.net", "3@example.net"]);
    let lost = node.records_of("1@example.net", 2);
    assert_eq!(lost[0]["what"], "accepted");
}

#[test]
fn a_segment_that_cannot_be_told_is_left_alone_and_named() {
    let (mut node, peer, _) = stopped_with(&["1@example.net"]);
    let folder = node.setup().data_dir().join("spool/segments");
    let path = folder.join("00000001.segment");
    let whole = fs::read(&path).unwrap();
    let mut headless = whole.clone();
    headless[..8192].fill(0xff);
    fs::write(&path, &headless).unwrap();
    let ran = node.try_restart().expect_err("what may hold mail is not passed over");
    failed(
        &ran,
        1,
        &format!(
            "the spool: {} is not part of this spool: it does not begin as a segment does; move it away or choose \
             another data directory",
            path.display()
        ),
        "",
    );
    assert!(fs::read(&path).unwrap() == headless);
    fs::write(&path, whole).unwrap();
    node.restart();
    until("the message at the peer", || (peer.count() == 1).then_some(()));
}

/// A segment's header is there twice, and its footer only saves time.
#[test]
fn garbage_at_both_ends_of_every_segment_costs_nothing() {
    let (mut node, peer, _) = stopped_with(&["1@example.net"]);
    let folder = node.setup().data_dir().join("spool/segments");
    for path in names(&folder).iter().map(|name| folder.join(name)) {
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len() - 4096;
        bytes[..4096].fill(0xa5);
        bytes[end..].fill(0x5a);
        fs::write(&path, bytes).unwrap();
    }
    node.restart();
    until("the message at the peer", || (peer.count() == 1).then_some(()));
    node.counts("queued", 0);
}

#[test]
fn a_foreign_file_in_the_spool_is_left_alone_and_named() {
    let (mut node, peer, _) = stopped_with(&["1@example.net"]);
    let path = node.setup().data_dir().join("spool/segments/notes.txt");
    fs::write(&path, "not a segment").unwrap();
    let ran = node.try_restart().expect_err("it is not ours");
    let error = format!(
        "the spool: {} is not part of this spool: it is not a file of the spool; move it away or choose another data \
         directory",
        path.display()
    );
    failed(&ran, 1, &error, "");
    assert_eq!(fs::read(&path).unwrap(), b"not a segment");
    fs::remove_file(&path).unwrap();
    node.restart();
    until("the message at the peer", || (peer.count() == 1).then_some(()));
}

fn log_of(node: &Node) -> PathBuf {
    node.setup().data_dir().join("message-log.sqlite")
}

/// The node does not start with these bytes in its message log, says why, and leaves them as they are.
fn refuses(node: &mut Node, at: usize, bytes: &[u8], why: &str) {
    let path = log_of(node);
    let mut log = fs::read(&path).expect("the node has stopped");
    log[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, &log).expect("the node has stopped");
    let ran = node.try_restart().expect_err("it must not be written to");
    failed(&ran, 1, &why.replace("{}", &path.display().to_string()), "");
    assert!(fs::read(&path).expect("it is there") == log, "it was written to");
}

/// Where the version that a program gives its tables stands in a file of SQLite (its file format, section 1.3).
const USER_VERSION: usize = 60;

#[test]
fn a_message_log_of_a_newer_program_is_refused_and_left_as_it_is() {
    let (mut node, peer, _) = stopped_with(&["1@example.net"]);
    let whole = fs::read(log_of(&node)).unwrap();
    refuses(
        &mut node,
        USER_VERSION,
        &7_u32.to_be_bytes(),
        "the message log {} has schema version 7 and this Posthouse knows up to 1: run the newer Posthouse again, or \
         move the file away",
    );
    fs::write(log_of(&node), whole).unwrap();
    node.restart();
    until("the message at the peer", || (peer.count() == 1).then_some(()));
    let log = node.quiet();
    assert_eq!((&log[0]["what"], &log.last().unwrap()["what"]), (&"accepted".into(), &"delivered".into()));
}

#[test]
fn a_damaged_message_log_is_refused_and_a_new_one_is_made_when_it_is_gone() {
    let (mut node, peer, _) = stopped_with(&["1@example.net"]);
    let whole = fs::read(log_of(&node)).unwrap();
    refuses(
        &mut node,
        0,
        b"no database at all",
        "{} is not the message log of a Posthouse: move it away, or choose another data directory; at the next start a \
         new log is made and mail is not touched",
    );
    fs::write(log_of(&node), whole).unwrap();
    refuses(
        &mut node,
        100,
        &[0xff; 400],
        "the message log {} is damaged: move it and the -wal and -shm files beside it away and start again; a new log \
         is made and mail is not touched (database disk image is malformed)",
    );
    fs::rename(log_of(&node), node.setup().folder().join("moved")).unwrap();
    node.restart();
    until("the message at the peer", || (peer.count() == 1).then_some(()));
    until("its end in the new log", || {
        node.log().iter().any(|record| record["what"] == "delivered").then_some(())
    });
}
