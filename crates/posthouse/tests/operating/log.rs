//! A message log that somebody holds: mail goes on without it, and it misses nothing.

use testkit::{Peer, until};

use super::{send, setup};

#[test]
fn a_log_that_is_locked_stops_no_mail_and_is_told_afterwards() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    send(&node, "before@example.net", "it is recorded");
    assert_eq!(node.quiet().len(), 2);
    let log = rusqlite::Connection::open(node.setup().data_dir().join("message-log.sqlite")).unwrap();
    log.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..20 {
        send(&node, &format!("u{number}@example.net"), "it is not, yet");
    }
    assert_eq!(peer.wait_for(21).len(), 21);
    assert!(node.said("the message log cannot be written").contains("mail goes on"));
    assert_eq!(node.log().len(), 2, "it is locked");
    log.execute_batch("ROLLBACK").unwrap();
    node.said("the message log is written again");
    until("all records", || (node.log().len() == 42).then_some(()));
}
