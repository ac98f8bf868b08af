//! Pauses: mail waits, says why, outlives a restart, and goes when it is resumed or the time has come.

use testkit::Peer;

use super::{deferred, failed, send, setup, unwilling};

#[test]
fn paused_mail_waits_and_says_whose_pause_it_is_until_it_is_resumed() {
    let peer = Peer::willing();
    let mut node = setup().to(&peer).start();
    let pause = ["mail", "pause", "--domain", "*.example.net", "--why", "they asked us to"];
    let said = node.command(&pause).done();
    assert_eq!(said, "Pause 1: mail to *.example.net waits until `posthouse mail resume 1`.\n");
    let sender = node.json(&["mail", "pause", "--sender", "news@example.com", "--for", "2h"]);
    assert_eq!((&sender["about"], &sender["pattern"]), (&"sender".into(), &"news@example.com".into()));
    let id = send(&node, "b@mail.example.net", "wait");
    send(&node, "b@example.org", "go");
    assert_eq!(peer.wait_for(1)[0].recipients, ["b@example.org"]);

    node.stop();
    node.restart();
    let why = &node.json(&["mail", "why", &id])[0];
    assert_eq!((&why["reason"], &why["pause"]), (&"paused".into(), &1.into()), "{why}");
    let text = why["text"].as_str().unwrap();
    assert!(text.ends_with("has paused mail to *.example.net: they asked us to"), "{text}");
    let listed = node.command(&["mail", "pauses"]).done();
    assert!(listed.contains("mail to *.example.net") && listed.contains("resumed by hand"), "{listed}");
    assert_eq!(listed.lines().count(), 3, "{listed}");

    assert_eq!(node.command(&["mail", "resume", "1"]).done(), "mail to *.example.net goes on.\n");
    assert_eq!(peer.wait_for(2).len(), 2);
    failed(
        &node.command(&["mail", "resume", "1"]),
        1,
        "there is no pause 1",
        "`posthouse mail pauses` lists them",
    );
    assert_eq!(node.command(&["mail", "resume", "--all"]).done(), "mail from news@example.com goes on.\n");
    assert_eq!(node.command(&["mail", "pauses"]).done(), "Nothing is paused.\n");
}

#[test]
fn what_a_pause_would_hold_back_is_counted_first() {
    let (peer, _mood) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    for recipient in ["a@example.net", "b@example.net", "c@example.org"] {
        send(&node, recipient, "wait");
    }
    deferred(&node, 3);
    let pause = ["mail", "pause", "--domain", "example.net"];
    let counted = node.command(&[&pause[..], &["--dry-run"]].concat()).done();
    assert_eq!(counted, "2 works (2 recipients) are meant; nothing was done.\n");
    let unasked = "2 works (2 recipients) are meant, and nothing was done: there is nobody to ask";
    failed(&node.command(&pause), 2, unasked, "say --yes to do it, or --dry-run to count only");
    assert_eq!(node.command(&["mail", "pauses"]).done(), "Nothing is paused.\n");
    let said = node.command(&[&pause[..], &["--yes"]].concat()).done();
    assert_eq!(said, "Pause 1: mail to example.net waits until `posthouse mail resume 1`.\n");
}

#[test]
fn a_pause_ends_by_itself() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    let said = node.command(&["mail", "pause", "--all", "--for", "1s"]).done();
    assert!(said.starts_with("Pause 1: all mail waits until 2"), "{said}");
    send(&node, "b@example.net", "a second");
    assert_eq!(peer.wait_for(1).len(), 1);
    let both = node.command(&["mail", "pause", "--all", "--domain", "example.com"]);
    assert!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}
