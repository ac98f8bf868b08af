//! A disk without the room that the operator wants to be left.

use testkit::{Peer, Session, Setup, until};

use super::{PROGRAM, send};

/// A node that wants more room than any disk has.
fn wanting(key: &str) -> Setup {
    Setup::new(PROGRAM).file(&format!("[spool]\nsegment = \"4MiB\"\n{key} = \"1048576GiB\"\n"))
}

#[test]
fn below_the_mark_mail_is_refused_before_its_text_and_said_to_be_so() {
    let node = wanting("min-free").flag("--smarthost", "192.0.2.1:25").start();
    assert!(node.said("the disk is full").contains("ERROR"));
    let mut session = Session::greeted(node.smtp()).expect("it takes sessions");
    let reply = session.say("MAIL FROM:<a@example.com>");
    assert_eq!(reply.to_string(), "452 4.3.1 no space left for mail; try again later");
    let sent =
        node.command(&["mail", "send", "--from", "a@example.com", "--to", "b@example.net", "--body", "x"]);
    assert!(sent.code == Some(1) && sent.stderr.contains("no space left"), "{sent:?}");
    assert_eq!(node.json(&["status"])["spool"]["room"], "full");
    assert!(
        node.command(&["status"]).done().ends_with("left there: new mail is refused until there is more\n")
    );
    assert!(node.get("/metrics").contains("\nposthouse_disk_full 1\n"));
    assert!(node.get("/readyz").ends_with("ready\n"), "what is there goes out");
}

#[test]
fn little_room_is_said_and_nothing_follows_from_it() {
    let peer = Peer::willing();
    let node = wanting("warn-free").to(&peer).start();
    assert!(node.said("the disk has little room left").contains("WARN"));
    send(&node, "b@example.net", "it goes");
    until("it at the peer", || (peer.count() == 1).then_some(()));
    assert_eq!(node.json(&["status"])["spool"]["room"], "low");
}
