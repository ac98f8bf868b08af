//! Strangers at the manager's port.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{
    Peer, Session,
    cluster::linked,
    node::word,
    text, until,
    wait::{PATIENCE, pass},
};

use crate::cluster;

/// Connections of each kind; each kind has an address of its own, those who say nothing several.
const STRANGERS: usize = 200;

/// The head of a handshake record of 512 bytes (RFC 8446 section 5.1).
const BEGUN: &[u8] = &[22, 3, 1, 2, 0];

/// Who drips begins with this and goes on with a byte each time.
const DRIPS: &[u8] = BEGUN.split_at(1).0;
const DRIP: Duration = Duration::from_millis(250);

#[test]
fn strangers_who_babble_begin_drip_or_say_nothing_keep_no_node_out_and_cost_little() {
    let peer = Peer::willing();
    let mut cluster = cluster(1, &peer);
    let before = cluster.manager.resident();
    let junk = [b'x'; 64 << 10];
    let mut strangers = Vec::new();
    let mut dripping = Vec::new();
    let silent = (6..11).map(|last| (last, &b""[..]));
    for (last, says) in [(2, &junk[..]), (3, BEGUN), (4, b""), (5, DRIPS)].into_iter().chain(silent) {
        let kind = cluster.stranger(last);
        for _ in 0..STRANGERS {
            let Ok(mut stranger) = kind.dial(cluster.link()) else { continue };
            // Who is turned away at once cannot say it.
            let _ = stranger.write_all(says);
            if says == DRIPS {
                dripping.push(stranger.try_clone().expect("it is open"));
            }
            strangers.push(stranger);
        }
    }
    let dripping = drip(dripping);
    assert!(strangers.len() > STRANGERS, "{} came in", strangers.len());
    cluster.workers[0].kill();
    cluster.workers[0].restart();
    linked(&cluster.workers[0]);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("meanwhile", 1000)).code, 250);
    let records = cluster.manager.records_of("b@example.com", 2);
    assert_eq!(word(&records[1], "what"), "delivered");
    let grown = cluster.manager.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for {} strangers", strangers.len());
    until("an end of all strangers", || {
        strangers.retain(|stranger| !is_over(stranger));
        strangers.is_empty().then_some(())
    });
    assert_eq!(dripping.join().expect("it ends"), 0, "nobody is left who drips");
}

/// Has those who drip go on with what they have begun, until all of them are ended; says how many are left.
fn drip(mut dripping: Vec<TcpStream>) -> JoinHandle<usize> {
    thread::spawn(move || {
        let bytes = BEGUN[1..].iter().chain(std::iter::repeat(&0));
        for (byte, _) in bytes.zip(0..PATIENCE.as_millis() / DRIP.as_millis()) {
            dripping.retain_mut(|stranger| stranger.write_all(&[*byte]).is_ok());
            if dripping.is_empty() {
                break;
            }
            pass(DRIP);
        }
        dripping.len()
    })
}

/// Whether the other side has ended it.
fn is_over(mut stream: &TcpStream) -> bool {
    const A_MOMENT: Duration = Duration::from_millis(1);
    stream.set_read_timeout(Some(A_MOMENT)).expect("it is not zero");
    match stream.read(&mut [0; 512]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}
