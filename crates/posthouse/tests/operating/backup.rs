//! A backup of a busy node becomes a node that has everything that was answered before.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;
use testkit::{
    Moment, Move, Node, Peer, Session, Setup,
    load::{Load, Sent},
    tools::{Ran, run},
    until,
};

use super::{PROGRAM, deferred, failed, send, setup, unwilling};

fn restore(from: &Path, to: &Path) -> Ran {
    let mut command = Command::new(PROGRAM);
    run(command.arg("restore").arg(from).arg("--data-dir").arg(to), b"")
}

/// A node on what a backup was restored into, with its mail going to this peer.
fn restored(from: &Path, peer: &Peer) -> Node {
    let setup = Setup::new(PROGRAM).file("[spool]\nsegment = \"4MiB\"\n").to(peer);
    let ran = restore(from, &setup.data_dir());
    assert!(ran.clone().done().contains("Make sure that the former node does not run any more"), "{ran:?}");
    setup.start()
}

/// Whom the log or the queue of a node knows.
fn known(node: &Node) -> BTreeSet<String> {
    let names = |records: &[Value]| {
        records
            .iter()
            .map(|record| record["recipient"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    until("the log to have caught up", || (node.json(&["status"])["records"]["behind"] == 0).then_some(()));
    names(&node.log()).into_iter().collect()
}

#[test]
fn what_was_answered_before_the_moment_of_a_backup_is_there_after_a_restore() {
    let peer = Peer::willing();
    let mut node = setup().to(&peer).flag("--retry", "100ms").start();
    // One over 1 MiB has a file of its own, and waits.
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["large@later.example"]);
    let large = [b"Subject: large\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(100_000)].concat();
    assert_eq!(session.data(&large).code, 250);
    let load = Load::start(23, node.smtp());
    until("some load", || (peer.count() > 200).then_some(()));
    let to = node.setup().folder().join("backup.tar");
    let answered_before: Vec<String> = load.answered();
    let manifest = node.json(&["backup", to.to_str().unwrap()]);
    assert!(manifest["sequence"].as_u64() > Some(200), "{manifest}");
    node.kill();
    let _ = load.stop();

    let after = Peer::willing();
    let node = restored(&to, &after);
    let known = known(&node);
    for name in &answered_before {
        for recipient in Sent::named(name).recipients {
            assert!(known.contains(&recipient), "{recipient} was answered before the backup");
        }
    }
    assert!(answered_before.len() > 50, "{}", answered_before.len());
    let log = node.quiet();
    assert!(log.iter().all(|record| record["reason"] != "damaged"), "something was set aside");
}

#[test]
fn a_folder_holds_the_same_with_settings_identity_and_configuration() {
    let (peer, mood) = unwilling();
    let mut node = setup().to(&peer).flag("--retry", "1s").start();
    let id = send(&node, "b@example.net", "wait");
    deferred(&node, 1);
    let to = node.setup().folder().join("backup");
    let shown = node.command(&["backup", to.to_str().unwrap()]).done();
    assert!(shown.contains(" holds mx1 as of "), "{shown}");
    for name in ["node-id", "posthouse.toml", "message-log.sqlite", "posthouse-backup.json"] {
        assert!(to.join(name).exists(), "{name}");
    }
    assert!(fs::read_to_string(to.join("posthouse.toml")).unwrap().contains(&peer.address().to_string()));
    let node_id = node.json(&["status"])["node_id"].clone();
    // What is there is not written over.
    failed(
        &node.command(&["backup", to.to_str().unwrap()]),
        1,
        &format!("{} is there already, and not empty", to.display()),
        "name a new one, or one that is empty",
    );
    node.stop();

    mood.brighten();
    let node = restored(&to, &peer);
    assert_eq!(node.json(&["status"])["node_id"], node_id);
    assert_eq!(peer.wait_for(1).len(), 1);
    let log = node.quiet();
    assert!(log.iter().all(|record| record["message"] == id), "{log:?}");
    assert_eq!(log.iter().filter(|record| record["what"] == "accepted").count(), 1);
}

#[test]
fn a_backup_that_is_not_whole_is_refused_and_a_full_directory_left_alone() {
    let peer = Peer::start(|moment| match moment {
        Moment::Recipient(_) => Move::Say("450 4.2.0 not yet".into()),
        _ => Move::Go,
    });
    let node = setup().to(&peer).start();
    send(&node, "b@example.net", "wait");
    let folder = node.setup().folder();
    let (tar, dir) = (folder.join("b.tar"), folder.join("b"));
    assert_eq!(node.command(&["backup", tar.to_str().unwrap()]).code, Some(0));
    assert_eq!(node.command(&["backup", dir.to_str().unwrap()]).code, Some(0));
    assert!(!folder.join("data/backup.tmp").exists());

    let target = folder.join("restored");
    let refused = |from: &Path, what: &str| {
        let ran = restore(from, &target);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(what), "{what:?} not in {}", ran.stderr);
        assert!(!target.join("node-id").exists(), "a node could start on it");
        fs::remove_dir_all(&target).unwrap();
    };
    let whole = fs::read(&tar).unwrap();
    fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    refused(&tar, "b.tar");
    let mut flipped = whole.clone();
    let at = flipped.windows(11).position(|part| part == b"Subject: Hi").unwrap();
    flipped[at] ^= 1;
    fs::write(&tar, &flipped).unwrap();
    refused(&tar, ".segment is not what was backed up");
    fs::remove_file(dir.join("message-log.sqlite")).unwrap();
    refused(&dir, "message-log.sqlite");
    fs::write(&tar, b"no archive").unwrap();
    refused(&tar, "b.tar");

    let data = node.setup().data_dir();
    let ran = restore(&dir, &data);
    assert!(ran.code == Some(1) && ran.stderr.contains("is there already, and not empty"), "{ran:?}");
    assert!(!ran.stderr.contains("remove"), "this is the data directory of a node that runs: {ran:?}");
    assert_eq!(node.json(&["status"])["ready"], true);
}
