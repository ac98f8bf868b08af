//! Works by selection: counted first, done only when somebody says so, and only to what was meant.

use serde_json::Value;
use testkit::{Node, Setup, until};

use super::{PROGRAM, deferred, send, setup, unwilling};

/// A node with five works that wait, of which two are for one domain.
fn waiting() -> (Node, testkit::Peer, super::Mood, Vec<String>) {
    let (peer, mood) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let to = ["a@one.example", "b@one.example", "c@two.example", "d@three.example", "e@four.example"];
    let ids = to.iter().map(|to| send(&node, to, "wait")).collect();
    deferred(&node, 5);
    (node, peer, mood, ids)
}

fn reasons(node: &Node) -> Vec<(String, String)> {
    let report = node.json(&["mail", "queue", "--all"]);
    let text = |work: &Value, field: &str| work[field].as_str().expect("it is a text").to_owned();
    let works = report["works"].as_array().expect("there are works").iter();
    let mut all: Vec<_> = works.map(|work| (text(work, "domain"), text(work, "reason"))).collect();
    all.sort();
    all
}

#[test]
fn nothing_is_done_that_nobody_has_agreed_to() {
    let (node, _peer, _mood, ids) = waiting();
    let dry = node.command(&["mail", "cancel", "--all", "--dry-run"]).done();
    assert_eq!(dry, "5 works (5 recipients) are meant; nothing was done.\n");
    let unasked = node.command(&["mail", "cancel", "--domain", "one.example"]);
    assert_eq!(unasked.code, Some(2));
    assert_eq!(
        unasked.stderr,
        "error: 2 works (2 recipients) are meant, and nothing was done: there is nobody to ask\n\
         hint: say --yes to do it, or --dry-run to count only\n"
    );
    let nothing = node.command(&["mail", "cancel"]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("required"), "{}", nothing.stderr);
    let unknown = node.command(&["mail", "hold", "--reason", "defered", "--yes"]);
    assert!(unknown.stderr.contains("did you mean \"deferred\"?"), "{}", unknown.stderr);
    for (selector, works) in [
        (vec!["--domain", "*.example"], 5),
        (vec!["--domain", "one.example", "--recipient", "A@one.example"], 1),
        (vec!["--sender", "*@example.com", "--attempts-over", "0"], 5),
        (vec!["--attempts-over", "1"], 0),
        (vec!["--older-than", "1h"], 0),
        (vec!["--id", &ids[2]], 1),
        (vec!["--reason", "deferred", "--account", "control"], 5),
        (vec!["--held"], 0),
    ] {
        let counted = node.json(&[&["mail", "cancel", "--dry-run"], &selector[..]].concat());
        assert_eq!(counted["works"], works, "{selector:?}");
    }
    assert_eq!(node.json(&["status"])["queued"], 5);
}

#[test]
fn works_are_held_released_cancelled_and_tried_now() {
    let (node, peer, mood, ids) = waiting();
    let done = node.command(&["mail", "hold", "--domain", "one.example", "--yes"]).done();
    assert_eq!(done, "2 works held.\n");
    mood.brighten();
    // What is held is not tried, whatever else is.
    assert_eq!(node.command(&["mail", "retry", "--all", "--yes"]).done(), "3 works to be tried now.\n");
    assert_eq!(peer.wait_for(3).len(), 3);
    node.counts("queued", 2);
    let held = node.command(&["mail", "why", &ids[0]]).done();
    assert!(held.contains(" for one.example (1 recipient) waits: held\n"), "{held}");

    let cancelled = node.json(&["mail", "cancel", "--id", &format!("{}.0", ids[1]), "--yes"]);
    assert_eq!((&cancelled["done"], &cancelled["finished"]), (&1.into(), &true.into()));
    assert_eq!(node.command(&["mail", "release", "--held", "--yes"]).done(), "1 work released.\n");
    assert_eq!(node.command(&["mail", "retry", "--all", "--yes"]).code, Some(0));
    assert_eq!(peer.wait_for(4).len(), 4);
    let log = node.quiet();
    let ends: Vec<&str> = log
        .iter()
        .filter(|record| record["message"] == ids[1] || record["message"] == ids[0])
        .filter_map(|record| record["what"].as_str())
        .filter(|what| ["cancelled", "delivered"].contains(what))
        .collect();
    assert_eq!(ends.len(), 2, "{log:?}");
    assert!(
        log.iter().all(|record| record["node"] == log[0]["node"]),
        "cancelled where all else happened: {log:?}"
    );
    assert_eq!(peer.count(), 4);
}

#[test]
fn works_are_rescheduled_and_a_scheduled_message_waits_for_its_time() {
    let (node, peer, mood, ids) = waiting();
    mood.brighten();
    let done = node.command(&["mail", "reschedule", "--at", "3h", "--id", &ids[0], "--yes"]).done();
    assert_eq!(done, "1 work rescheduled.\n");
    let why = &node.json(&["mail", "why", &ids[0]])[0];
    assert_eq!(why["reason"], "scheduled", "{why}");
    assert!(reasons(&node).contains(&("one.example".into(), "by-hand".into())), "{:?}", reasons(&node));
    assert_eq!(
        node.command(&["mail", "priority", "--to", "-9", "--all", "--yes"]).done(),
        "5 works changed.\n"
    );

    let later =
        ["mail", "send", "--from", "a@example.com", "--to", "f@five.example", "--subject", "x", "--at", "2h"];
    let id = node.json(&later)["id"].as_str().unwrap().to_owned();
    let why = &node.json(&["mail", "why", &id])[0];
    assert_eq!((&why["reason"], &why["domain"]), (&"scheduled".into(), &"five.example".into()));
    let soon =
        [&later[..7], &["y", "--at", "500ms", "--expire", "1h", "--retry", "1s", "--priority", "9"]].concat();
    assert_eq!(node.command(&soon).code, Some(0));
    assert_eq!(peer.wait_for(1).len(), 1);
    assert_eq!(node.command(&["mail", "reschedule", "--at", "0s", "--all", "--yes"]).code, Some(0));
    until("all to be delivered", || (peer.count() == 7).then_some(()));
}

#[test]
fn a_destination_has_a_plan_of_retries_of_its_own_and_so_has_a_message() {
    let (peer, _) = unwilling();
    let node = Setup::new(PROGRAM)
        .file("[spool]\nsegment = \"4MiB\"\n[[delivery.destination]]\ndomain = \"slow.example\"\nretry = [\"6h\"]\n")
        .to(&peer)
        .flag("--retry", "10m")
        .start();
    let send = |to: &str, more: &[&str]| {
        let words = ["mail", "send", "--from", "a@example.com", "--to", to, "--body", "x"];
        node.json(&[&words[..], more].concat())["id"].as_str().expect("it has an id").to_owned()
    };
    let ids = [
        send("a@quick.example", &[]),
        send("b@slow.example", &[]),
        send("c@slow.example", &["--retry", "3days"]),
    ];
    deferred(&node, 3);
    let units = ids.map(|id| {
        let text = node.command(&["mail", "why", &id]).done();
        let ends = text.split_once("ends in ").expect("it says when").1;
        let time = ends.split([' ', ',']).next().expect("a time");
        time.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()
    });
    assert_eq!(units, ["m", "h", "days"]);
}
