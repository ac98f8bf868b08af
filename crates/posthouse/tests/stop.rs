//! SIGTERM: what was answered stays answered, what is under way is awaited, and then all ends well.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    time::{Duration, Instant},
};

use testkit::{
    Gate, Moment, Move, Node, Peer, Session, Setup, Taken,
    load::{Load, Sent},
    until, wait,
};

fn setup(peer: &Peer) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(peer).flag("--retry", "100ms")
}

fn send(node: &Node, recipient: &str) {
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &[recipient]);
    assert_eq!(session.data(b"Subject: short\r\n\r\nhello\r\n").code, 250);
}

#[test]
fn under_load_every_250_is_kept_and_nothing_comes_twice() {
    let peer = Peer::willing();
    let mut node = setup(&peer).start();
    let load = Load::start(17, node.smtp());
    until("some load", || (peer.count() > 100).then_some(()));
    let asked = Instant::now();
    node.stop();
    let stopped = (asked, Instant::now());
    let answered = load.stop();
    node.restart();
    let log = node.quiet();
    let taken = peer.taken();
    let mut came: BTreeMap<&str, Vec<&Taken>> = BTreeMap::new();
    for (recipient, taken) in
        taken.iter().flat_map(|taken| taken.recipients.iter().map(move |to| (to, taken)))
    {
        came.entry(recipient).or_default().push(taken);
    }
    for recipient in answered.iter().flat_map(|name| Sent::named(name).recipients) {
        assert!(came.contains_key(recipient.as_str()), "{recipient} was answered 250 and never came");
    }
    if let Some((recipient, copies)) = came.iter().find(|(_, copies)| copies.len() > 1) {
        let times: Vec<_> = copies.iter().map(|copy| (copy.connection, copy.read, copy.answer)).collect();
        let records: Vec<_> = log.iter().filter(|record| record["recipient"] == **recipient).collect();
        panic!("{recipient} came {} times: {times:?}; stopped within {stopped:?}; {records:?}", copies.len());
    }
    assert!(log.iter().all(|record| record["what"] != "delivered" || record["possible_duplicate"] == false));
    assert_eq!(peer.faults(), Vec::<String>::new());
}

/// Three sessions: between transactions, with an envelope, and in the middle of a text.
fn sessions(node: &Node) -> [Session; 3] {
    let fresh = Session::open(node.smtp());
    let mut with_envelope = Session::open(node.smtp());
    with_envelope.envelope("a@example.com", &["b@example.net"]);
    let mut in_text = Session::open(node.smtp());
    in_text.envelope("a@example.com", &["c@example.net"]);
    assert_eq!(in_text.say("DATA").code, 354);
    in_text.write(b"Subject: half\r\n\r\nno end of it\r\n").expect("it is read");
    [fresh, with_envelope, in_text]
}

fn is_told_to_go(session: Session) {
    let farewell = session.farewell();
    assert!(farewell.starts_with("421 4.3.2 ") && farewell.lines().count() == 1, "{farewell:?}");
}

#[test]
fn who_is_in_a_transaction_brings_it_to_its_end_and_all_others_get_421_at_once() {
    let peer = Peer::willing();
    let mut node = setup(&peer).start();
    let [fresh, mut with_envelope, mut in_text] = sessions(&node);
    node.terminate();
    is_told_to_go(fresh);
    assert!(Session::greeted(node.smtp()).is_err(), "newcomers are not served");
    assert_eq!(with_envelope.data(b"Subject: whole\r\n\r\nhello\r\n").code, 250);
    is_told_to_go(with_envelope);
    // Who begins another one at once is too late.
    in_text.write(b"the end\r\n.\r\nMAIL FROM:<a@example.com>\r\n").unwrap();
    assert_eq!(in_text.reply().unwrap().code, 250);
    is_told_to_go(in_text);
    assert!(node.ended().success());
    node.restart();
    let log = node.quiet();
    assert_eq!((log.len(), peer.count()), (4, 2), "{log:?}");
}

#[test]
fn a_transaction_without_an_end_does_not_hold_a_stop_up_beyond_the_grace() {
    let grace = Duration::from_secs(1);
    let peer = Peer::willing();
    let mut node = setup(&peer).flag("--stop-grace", "1s").start();
    let [fresh, mut busy, in_text] = sessions(&node);
    node.terminate();
    let asked = Instant::now();
    is_told_to_go(fresh);
    // It says something all the time, and the other nothing at all.
    let last = loop {
        wait::pass(Duration::from_millis(50));
        match busy.write(b"NOOP\r\n").and_then(|()| busy.reply()) {
            Ok(reply) if reply.code == 250 => {}
            last => break last,
        }
    };
    assert!(asked.elapsed() >= grace, "{last:?} after {:?}", asked.elapsed());
    is_told_to_go(in_text);
    assert!(node.ended().success());
    assert!(asked.elapsed() < 3 * grace, "{:?}", asked.elapsed());
    node.restart();
    assert_eq!((node.quiet().len(), peer.count()), (0, 0));
}

#[test]
fn a_dot_under_way_is_awaited() {
    let gate = Gate::new();
    let peer = Peer::gated(&gate);
    let mut node = setup(&peer).start();
    send(&node, "u@example.net");
    gate.reached(1);
    node.terminate();
    node.said("the node is stopping");
    // Nobody else comes in any more, but the delivery goes on.
    until("a closed door", || TcpStream::connect(node.smtp()).is_err().then_some(()));
    assert!(node.is_running());
    gate.open();
    assert!(node.ended().success());
    node.restart();
    let log = node.quiet();
    assert_eq!((log.len(), peer.count()), (2, 1));
    assert_eq!((&log[1]["what"], &log[1]["possible_duplicate"]), (&"delivered".into(), &false.into()));
}

#[test]
fn a_dot_that_is_not_answered_within_the_grace_is_given_up_and_comes_again_marked() {
    let gate = Gate::new();
    let peer = Peer::gated(&gate);
    let mut node = setup(&peer).flag("--stop-grace", "500ms").start();
    send(&node, "u@example.net");
    gate.reached(1);
    node.stop();
    gate.open();
    node.restart();
    let log = node.quiet();
    let end = log.last().expect("there is an end");
    assert_eq!((&end["what"], &end["possible_duplicate"]), (&"delivered".into(), &true.into()));
    assert_eq!((log.len(), peer.count()), (2, 2), "{log:?}");
}

#[test]
fn what_waits_for_its_time_waits_on_after_a_stop() {
    let peer = Peer::start(|moment| match moment {
        Moment::Mail(_) => Move::Say("451 4.3.0 not today".into()),
        _ => Move::Go,
    });
    let mut node = Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(&peer).flag("--retry", "1h").start();
    send(&node, "u@example.net");
    let before = until("a deferred work", || {
        let queue = node.json(&["mail", "queue", "--all"]);
        (queue["works"][0]["reason"] == "deferred").then_some(queue)
    });
    node.stop();
    node.restart();
    assert_eq!(node.json(&["mail", "queue", "--all"]), before);
    node.kill();
    node.restart();
    assert_eq!(node.json(&["mail", "queue", "--all"]), before);
    assert_eq!(peer.connections(), 1);
}
