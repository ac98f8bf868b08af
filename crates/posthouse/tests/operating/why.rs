//! Why a message waits: the reason that binds, and when it ends.

use super::{deferred, failed, send, setup, unwilling};

#[test]
fn a_deferred_message_says_which_reply_it_waits_for_and_how_long() {
    let (peer, mood) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let id = send(&node, "b@example.net", "wait");
    deferred(&node, 1);
    let text = node.command(&["mail", "why", &format!("{id}.0")]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{id}.0 for example.net (1 recipient) waits: retry"));
    assert_eq!(lines[1], "  attempt 1 did not end it: 450 4.2.0 not yet");
    assert!(lines[2].starts_with("  ends in ") && lines[2].ends_with(" UTC"), "{text}");
    let why = &node.json(&["mail", "why", &id])[0];
    assert_eq!((&why["reason"], &why["last_reply"]), (&"retry".into(), &"450 4.2.0 not yet".into()));
    assert!(why["until"].as_str().is_some(), "{why}");
    mood.brighten();
    assert_eq!(node.command(&["mail", "retry", "--id", &id, "--yes"]).code, Some(0));
    let _ = node.quiet();
    failed(
        &node.command(&["mail", "why", &id]),
        1,
        &format!("nothing of {id} waits"),
        "`posthouse mail show ID` tells what became of a message",
    );
}
