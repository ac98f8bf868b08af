//! Next hops that lack an extension: a message fails only if it needs it.

use testkit::{Peer, Session, node::word};

use super::{send, setup, words};

/// Sends a message with parameters of MAIL; it has to be accepted.
fn send_with(node: &testkit::Node, parameters: &str, recipients: &[&str], text: &[u8]) {
    let mut session = Session::open(node.smtp());
    assert_eq!(session.say(&format!("MAIL FROM:<a@example.com> {parameters}")).code, 250);
    for recipient in recipients {
        assert_eq!(session.say(&format!("RCPT TO:<{recipient}>")).code, 250);
    }
    assert_eq!(session.data(text).code, 250);
}

/// The last record of a recipient that failed: reason and reply.
fn failure(node: &testkit::Node, recipient: &str) -> (String, String) {
    let records = node.records_of(recipient, 2);
    assert_eq!(words(&records), ["accepted", "failed"]);
    (word(&records[1], "reason").to_owned(), word(&records[1], "reply").to_owned())
}

#[test]
fn eight_bit_text_bounces_at_a_host_without_8bitmime_and_plain_text_does_not() {
    let plain = Peer::offering(&["PIPELINING", "SIZE"], |_| testkit::Move::Go);
    let senders = Peer::willing();
    let node = setup(&plain).flag("--route", format!("example.com={}", senders.address())).start();
    send_with(&node, "BODY=8BITMIME", &["plain@example.net"], b"Subject: x\r\n\r\nonly declared\r\n");
    send(&node, &["eight@example.net"], "Subject: x\r\n\r\nGr\u{fc}\u{df}e\r\n".as_bytes());
    let (reason, reply) = failure(&node, "eight@example.net");
    assert_eq!((reason.as_str(), reply.get(..9)), ("needs-8bitmime", Some("554 5.6.3")), "{reply}");
    let taken = plain.wait_for(1);
    assert_eq!(taken[0].recipients, ["plain@example.net"]);
    assert!(!taken[0].mail.contains("BODY"), "{}", taken[0].mail);
    let report = senders.wait_for(1).remove(0);
    assert!(String::from_utf8_lossy(&report.text).contains("\r\nStatus: 5.6.3\r\n"));
    assert_eq!(plain.count(), 1);
}

#[test]
fn utf_8_bounces_at_a_host_without_smtputf8_and_ascii_does_not() {
    let plain = Peer::offering(&["PIPELINING", "8BITMIME"], |_| testkit::Move::Go);
    let senders = Peer::willing();
    let node = setup(&plain).flag("--route", format!("example.com={}", senders.address())).start();
    send_with(&node, "SMTPUTF8", &["plain@example.net"], b"Subject: only declared\r\n\r\nhello\r\n");
    send_with(
        &node,
        "SMTPUTF8",
        &["field@example.net"],
        "Subject: Gr\u{fc}\u{df}e\r\n\r\nhello\r\n".as_bytes(),
    );
    let mixed = ["ascii@example.net", "j\u{f6}rg@example.net"];
    send_with(&node, "SMTPUTF8", &mixed, b"Subject: hi\r\n\r\nhello\r\n");
    for recipient in ["field@example.net", "j\u{f6}rg@example.net"] {
        let (reason, reply) = failure(&node, recipient);
        assert_eq!((reason.as_str(), reply.get(..9)), ("needs-smtputf8", Some("553 5.6.7")), "{reply}");
    }
    let mut delivered: Vec<String> =
        plain.wait_for(2).into_iter().flat_map(|taken| taken.recipients).collect();
    delivered.sort();
    assert_eq!(delivered, ["ascii@example.net", "plain@example.net"]);
    assert!(plain.taken().iter().all(|taken| !taken.mail.contains("SMTPUTF8")));
    for report in senders.wait_for(2) {
        assert!(String::from_utf8_lossy(&report.text).contains("\r\nStatus: 5.6.7\r\n"));
    }
}

#[test]
fn a_message_larger_than_the_host_takes_bounces_without_being_offered() {
    let small = Peer::offering(&["PIPELINING", "SIZE 5000"], |_| testkit::Move::Go);
    let senders = Peer::willing();
    let node = setup(&small).flag("--route", format!("example.com={}", senders.address())).start();
    send(&node, &["large@example.net"], &testkit::text::message("large", 6000));
    send(&node, &["small@example.net"], &testkit::text::message("small", 1000));
    let (reason, reply) = failure(&node, "large@example.net");
    assert_eq!((reason.as_str(), reply.get(..9)), ("too-big", Some("552 5.3.4")), "{reply}");
    assert_eq!(small.wait_for(1)[0].recipients, ["small@example.net"]);
    assert_eq!(senders.wait_for(1)[0].recipients, ["a@example.com"]);
}
