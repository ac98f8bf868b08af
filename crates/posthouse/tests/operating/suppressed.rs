//! Suppressed addresses: mail to them fails and is not sent, until they are suppressed no more.

use std::fmt::Write as _;

use super::{deferred, failed, send, setup, unwilling};

#[test]
fn mail_to_a_suppressed_address_is_refused_or_fails_and_goes_again_later() {
    let (peer, mood) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let queued = send(&node, "ben@example.net", "wait");
    deferred(&node, 1);
    let suppress = ["mail", "suppress", "Ben@example.net", "--why", "asked for no more"];
    let counted = node.command(&[&suppress[..], &["--dry-run"]].concat()).done();
    assert_eq!(counted, "1 work (1 recipient) is meant; nothing was done.\n");
    let unasked = "1 work (1 recipient) is meant, and nothing was done: there is nobody to ask";
    failed(&node.command(&suppress), 2, unasked, "say --yes to do it, or --dry-run to count only");
    let said = node.command(&[&suppress[..], &["--yes"]].concat()).done();
    assert_eq!(said, "1 address suppressed, 0 changed.\n");
    let letter = ["mail", "send", "--from", "a@example.com", "--to", "ben@example.NET", "--subject", "no"];
    failed(
        &node.command(&letter),
        1,
        "ben@example.net: 550 5.7.1 no mail is sent to this address from here: asked for no more",
        "",
    );
    mood.brighten();
    // What waits already fails at its turn, and its sender is told.
    assert_eq!(node.command(&["mail", "retry", "--id", &queued, "--yes"]).code, Some(0));
    assert_eq!(peer.wait_for(1)[0].recipients, ["a@example.com"]);
    let ends = node.quiet();
    let ended = ends.iter().find(|record| record["message"] == queued && record["what"] == "failed").unwrap();
    assert_eq!(ended["reason"], "suppressed");
    let listed = node.command(&["mail", "suppressed", "BEN@example.net"]).done();
    assert!(listed.contains("Ben@example.net") && listed.contains("asked for no more"), "{listed}");

    assert_eq!(
        node.command(&["mail", "unsuppress", "ben@example.net"]).done(),
        "1 of 1 suppressed no more.\n"
    );
    send(&node, "ben@example.net", "yes");
    assert_eq!(peer.wait_for(2)[1].recipients, ["ben@example.net"]);
    assert_eq!(node.command(&["mail", "suppressed"]).done(), "No such address is suppressed.\n");
}

#[test]
fn addresses_come_from_a_file_and_are_listed_by_the_page() {
    let node = setup().start();
    let mut list = String::from("# who complained\n\n");
    for number in 0..25_000 {
        writeln!(list, "u{number:05}@example.com").unwrap();
    }
    let said =
        node.command_with(&["mail", "suppress", "--file", "-", "--for", "30d"], list.as_bytes()).done();
    assert_eq!(said, "25000 addresses suppressed, 0 changed.\n");
    let page = node.json(&["mail", "suppressed", "--limit", "3", "--after", "u00099@example.com"]);
    assert_eq!(
        (&page["total"], &page["addresses"][0]["address"]),
        (&25_000.into(), &"u00100@example.com".into())
    );
    assert_eq!(page["next"], "u00102@example.com");
    let wrong = node.command(&["mail", "suppress", "nobody"]);
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("\"nobody\" is not an address"),
        "{}",
        wrong.stderr
    );
    failed(
        &node.command(&["mail", "suppress", "--file", "/nowhere"]),
        1,
        "cannot read /nowhere: No such file or directory (os error 2)",
        "",
    );
}
