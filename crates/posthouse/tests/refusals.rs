//! What the door refuses, and with which words: strangers' mail for elsewhere, and all that is too much.

use testkit::{Node, Peer, Session, Setup, client::Reply, text::message};

fn setup(peer: &Peer) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(peer)
}

/// Whether a reply has this code and this enhanced code.
#[track_caller]
fn is(reply: &Reply, code: u16, enhanced: &str) {
    assert!(reply.code == code && reply.text.starts_with(enhanced), "not {code} {enhanced}, but {reply}");
}

#[test]
fn strangers_reach_the_domains_that_are_open_and_nothing_else() {
    let peer = Peer::willing();
    let node = setup(&peer)
        .flag("--relay-from", "192.0.2.0/24")
        .flag("--relay-to", "example.com")
        .flag("--relay-to", "*.example.net")
        .start();
    let mut session = Session::open(node.smtp());
    assert_eq!(session.say("MAIL FROM:<a@example.com>").code, 250);
    for elsewhere in [
        "u@example.org",
        "u@sub.example.com",
        "u@example.net",
        "u@notexample.com",
        "u@example.com.example.org",
        "@example.com:u@example.org",
        "\"u@example.com\"@example.org",
        "u@[127.0.0.1]",
        "u%example.com@example.org",
    ] {
        is(&session.say(&format!("RCPT TO:<{elsewhere}>")), 550, "5.7.1 ");
    }
    let open = ["u@example.com", "U@EXAMPLE.com", "u@a.b.example.net", "\"u@example.org\"@example.com"];
    for open in open {
        is(&session.say(&format!("RCPT TO:<{open}>")), 250, "2.1.5 ");
    }
    assert_eq!(session.data(b"Subject: in\r\n\r\nhello\r\n").code, 250);
    let mut got: Vec<String> = peer.wait_for(2).into_iter().flat_map(|taken| taken.recipients).collect();
    got.sort();
    let expected = ["\"u@example.org\"@example.com", "U@example.com", "u@a.b.example.net", "u@example.com"];
    assert_eq!(got, expected);
    assert_eq!(node.json(&["status"])["accepted"], 4);
}

#[test]
fn by_default_only_this_machine_may_send() {
    let node = setup(&Peer::willing()).start();
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["u@example.org"]);
    is(&session.say("RSET"), 250, "2.0.0 ");
}

#[test]
fn each_limit_of_a_message_has_its_own_answer_and_the_session_goes_on() {
    let peer = Peer::willing();
    let limits = "
        limits.message = '100KiB'
        limits.header = '2KiB'
        limits.text-line = '1000'
        limits.hops = 3
        limits.recipients = 3";
    let node = setup(&peer).file(limits).start();
    let mut session = Session::open(node.smtp());
    is(&session.say("MAIL FROM:<a@example.com> SIZE=102401"), 552, "5.3.4 ");
    let hops = [b"Received: x\r\n".repeat(4), b"\r\nhello\r\n".to_vec()].concat();
    let header = [b"X-Field: of forty bytes, as long as that\r\n".repeat(60), b"\r\nhello\r\n".to_vec()].concat();
    let line = [&b"Subject: x\r\n\r\n"[..], &[b'x'; 1001], b"\r\n"].concat();
    let texts = [
        (message("large", 101 << 10), 552, "5.3.4 "),
        (header, 552, "5.3.4 "),
        (line, 550, "5.6.0 "),
        (hops, 554, "5.4.6 "),
    ];
    for (text, code, enhanced) in &texts {
        session.envelope("a@example.com", &["u@example.net"]);
        is(&session.data(text), *code, enhanced);
        session.envelope("a@example.com", &["u@example.net"]);
        is(&session.bdat(text), *code, enhanced);
    }
    session.envelope("a@example.com", &["u1@example.net", "u2@example.net", "u3@example.net"]);
    is(&session.say("RCPT TO:<u4@example.net>"), 452, "4.5.3 ");
    is(&session.data(&message("fits", 99 << 10)), 250, "2.0.0 ");
    assert_eq!(peer.wait_for(1)[0].recipients.len(), 3);
    assert_eq!(node.quiet().len(), 6);
}

#[test]
fn a_session_of_errors_is_ended() {
    let node = setup(&Peer::willing()).file("limits.errors = 5").start();
    let mut session = Session::open(node.smtp());
    for _ in 0..4 {
        is(&session.say("NONSENSE"), 500, "5.5.1 ");
    }
    session.write(b"NONSENSE\r\n").unwrap();
    let farewell = session.farewell();
    assert!(farewell.contains("\r\n421 4.7.0 "), "{farewell}");

    let mut session = Session::connect(node.smtp()).unwrap();
    session.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nMAIL FROM:<a@example.com>\r\n").unwrap();
    let farewell = session.farewell();
    assert!(farewell.contains("\r\n421 4.7.0 ") && !farewell.contains("250"), "{farewell}");
}

#[test]
fn too_many_sessions_are_turned_away_until_somebody_leaves() {
    for limit in ["limits.sessions-per-client = 2", "limits.sessions = 2"] {
        let node = setup(&Peer::willing()).file(limit).start();
        let (mut first, _second) = (Session::open(node.smtp()), Session::open(node.smtp()));
        for _ in 0..3 {
            let farewell = Session::connect(node.smtp()).unwrap().farewell();
            assert!(farewell.starts_with("421 4.7.0 "), "{limit}: {farewell}");
        }
        is(&first.say("QUIT"), 221, "2.0.0 ");
        assert_eq!(first.farewell(), "");
        testkit::until("a place", || Session::greeted(node.smtp()).ok());
    }
}

#[test]
fn who_is_silent_for_too_long_gets_421() {
    let node = setup(&Peer::willing()).file("limits.idle = '1s'").start();
    let mut in_text = Session::open(node.smtp());
    in_text.envelope("a@example.com", &["u@example.net"]);
    assert_eq!(in_text.say("DATA").code, 354);
    in_text.write(b"Subject: half").unwrap();
    for session in [Session::open(node.smtp()), in_text] {
        let farewell = session.farewell();
        assert!(farewell.starts_with("421 4.4.2 "), "{farewell}");
    }
    node.counts("sessions", 0);
    assert_eq!(node.json(&["status"])["accepted"], 0);
}

/// Begins a message and sends most of it; the node has it all when this returns.
fn half_sent(node: &Node, text: &[u8]) -> Session {
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["u@example.net"]);
    let reply = session.send(&[format!("BDAT {}\r\n", text.len()).as_bytes(), text].concat());
    is(&reply, 250, "2.0.0 ");
    session
}

#[test]
fn when_the_memory_for_receiving_is_spent_messages_wait_outside_and_nothing_dies() {
    let peer = Peer::willing();
    let node = setup(&peer).file("limits.receive-memory = '2MiB'").start();
    let text = message("big", 900_000);
    let mut inside = [half_sent(&node, &text), half_sent(&node, &text)];
    let mut outside = Session::open(node.smtp());
    for _ in 0..3 {
        outside.envelope("a@example.com", &["v@example.net"]);
        is(&outside.data(&text), 452, "4.3.1 ");
    }
    outside.envelope("a@example.com", &["v@example.net"]);
    is(&outside.bdat(&text), 452, "4.3.1 ");
    for session in &mut inside {
        is(&session.bdat(b""), 250, "2.0.0 ");
    }
    // What they held is free again.
    outside.envelope("a@example.com", &["v@example.net"]);
    is(&outside.data(&text), 250, "2.0.0 ");
    let taken = peer.wait_for(3);
    assert!(taken.iter().all(|taken| testkit::text::below_trace(&taken.text) == text));
    assert_eq!((node.quiet().len(), peer.count()), (6, 3));
}
