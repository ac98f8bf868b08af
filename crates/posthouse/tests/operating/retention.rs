//! Old records go by themselves, while the node runs.

use testkit::{Peer, until};

use super::{send, setup};

/// The value of a metric.
fn metric(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn records_that_are_too_old_are_gone_after_a_start_and_the_young_stay() {
    let peer = Peer::willing();
    let mut node = setup().to(&peer).start();
    for number in 0..30 {
        send(&node, &format!("old{number}@example.net"), "long ago");
    }
    assert_eq!(node.quiet().len(), 60);
    node.stop();
    // What a node cannot do in the time of a test is grow old.
    let log = rusqlite::Connection::open(node.setup().data_dir().join("message-log.sqlite")).unwrap();
    log.execute("UPDATE record SET at = at - 100 * 86400 * 1000000", []).unwrap();
    drop(log);
    node.restart();
    let young = send(&node, "young@example.net", "now");
    until("the old records to go", || {
        (metric(&node.get("/metrics"), "posthouse_log_forgotten_total") == 60).then_some(())
    });
    let left = node.quiet();
    assert!(left.len() == 2 && left.iter().all(|record| record["message"] == young), "{left:?}");
    let status = node.json(&["status"]);
    assert!(status["records"]["bytes"].as_u64() > Some(8192), "{status}");
}
