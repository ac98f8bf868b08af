//! What systemd hears of a node: a socket of the test is in its place.

use std::{os::unix::net::UnixDatagram, time::Duration};

use tempfile::TempDir;
use testkit::wait::PATIENCE;

use super::setup;

/// What comes over the socket, up to and with the first message that begins like this.
fn heard(socket: &UnixDatagram, until: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while !all.last().is_some_and(|last| last.starts_with(until)) {
        let mut bytes = [0; 500];
        let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {until} after {all:?}: {error}"));
        all.push(String::from_utf8(bytes[..len].to_vec()).expect("it is text"));
    }
    all
}

#[test]
fn systemd_hears_that_a_node_is_ready_lives_reloads_and_stops() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut node = setup()
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", Duration::from_millis(400).as_micros().to_string())
        .start();
    assert_eq!(heard(&socket, "READY"), ["READY=1"]);
    heard(&socket, "WATCHDOG=1");
    assert_eq!(heard(&socket, "STATUS").last().unwrap(), "STATUS=0 recipients queued, 0 sessions");
    heard(&socket, "WATCHDOG=1");

    node.hang_up();
    let reloading = heard(&socket, "RELOADING=1\nMONOTONIC_USEC=").pop().unwrap();
    assert!(reloading.rsplit_once('=').unwrap().1.parse::<u64>().unwrap() > 0, "{reloading}");
    heard(&socket, "READY=1");

    node.terminate();
    let last = heard(&socket, "STOPPING=1");
    assert!(!last.iter().any(|message| message.starts_with("READY")), "{last:?}");
    assert!(node.ended().success());
}
