//! What the node says no to, at the door: each refusal has its code and its text, costs nobody else anything,
//! and leaves no trace of a message.

use std::{net::SocketAddr, process::Command, thread};

use serde_json::Value;
use testkit::{
    Node, Peer, Program, Session, Setup,
    client::Reply,
    text::{below_trace, message},
    tools, until,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

/// A node with a willing peer behind it, and with this in its file; its spool is small, to start quickly.
fn start(file: &str) -> (Node, Peer) {
    let peer = Peer::willing();
    (setup(file).to(&peer).start(), peer)
}

fn setup(file: &str) -> Setup {
    Setup::new(PROGRAM).file(&format!("[spool]\nsegment = \"4MiB\"\n{file}"))
}

fn assert_reply(reply: &Reply, code: u16, text: &str) {
    assert_eq!((reply.code, reply.text.as_str()), (code, text));
}

/// A decent message still comes through, and nothing but what came through so far and this.
fn still_takes_mail(node: &Node, peer: &Peer, before: usize) {
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["decent@example.net"]);
    assert_eq!(session.data(b"Subject: decent\r\n\r\nhello\r\n").code, 250);
    let taken = peer.wait_for(before + 1);
    assert_eq!(below_trace(&taken[before].text), b"Subject: decent\r\n\r\nhello\r\n");
    let _ = node.quiet();
    assert_eq!((peer.count(), peer.faults()), (before + 1, Vec::new()));
}

/// The value of a metric.
fn metric(node: &Node, name: &str) -> u64 {
    let answer = node.get("/metrics");
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().expect("it is a number")
}

const NO_RELAY: &str = "5.7.1 relaying to this domain is not allowed from your address";

#[test]
fn a_stranger_relays_only_to_the_domains_that_are_named() {
    let peer = Peer::willing();
    let node = setup("")
        .to(&peer)
        .flag("--relay-from", "192.0.2.0/24")
        .flag("--relay-to", "example.net")
        .flag("--relay-to", "*.example.org")
        .start();
    let mut session = Session::open(node.smtp());
    assert_eq!(session.say("MAIL FROM:<b@example.net>").code, 250);
    let refused = [
        "b@example.com",
        "b@sub.example.net",
        "b@example.org",
        "b@example.net.example.com",
        "b@notexample.net",
        "b@[127.0.0.1]",
        "b%example.net@example.com",
        "\"b@example.net\"@example.com",
        // Hosts to go through first do not count (RFC 5321, appendix C).
        "@example.net:b@example.com",
        "@example.net,@sub.example.org:b@example.com",
    ];
    for address in refused {
        assert_reply(&session.say(&format!("RCPT TO:<{address}>")), 550, NO_RELAY);
    }
    assert_eq!(session.say("RCPT TO:<b@example.net@example.com>").code, 501);
    assert_reply(&session.say("DATA"), 554, "5.5.1 no valid recipients");
    let taken = ["one@example.net", "two@EXAMPLE.NET", "three@sub.example.org", "four@a.b.example.org"];
    for address in taken {
        assert_eq!(session.say(&format!("RCPT TO:<{address}>")).code, 250, "{address}");
    }
    assert_eq!(session.say("RCPT TO:<late@example.com>").code, 550);
    assert_eq!(session.data(b"Subject: to you\r\n\r\nhello\r\n").code, 250);
    let log = node.quiet();
    let mut got: Vec<_> = peer.taken().into_iter().flat_map(|taken| taken.recipients).collect();
    got.sort();
    assert_eq!(got, ["four@a.b.example.org", "one@example.net", "three@sub.example.org", "two@example.net"]);
    let recorded = log.iter().filter(|record| record["what"] == "refused").count();
    assert_eq!(recorded, refused.len() + 1, "{log:?}");
    assert_eq!((log.len() - recorded, &node.json(&["status"])["accepted"]), (8, &4.into()));
    assert_eq!(metric(&node, "posthouse_recipients_rejected_total"), refused.len() as u64 + 1);
}

#[test]
fn by_default_only_this_machine_may_send_and_anywhere() {
    let (node, peer) = start("");
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["b@anywhere.example"]);
    assert_eq!(session.data(b"Subject: from here\r\n\r\nhello\r\n").code, 250);
    assert_eq!(peer.wait_for(1)[0].recipients, ["b@anywhere.example"]);
}

const TOO_LARGE: &str = "5.3.4 message is larger than this host takes";

#[test]
fn a_message_may_be_as_large_as_said_and_no_larger() {
    let (node, peer) = start("[limits]\nmessage = \"64KiB\"");
    let limit = 64 << 10;
    let mut session = Session::connect(node.smtp()).unwrap();
    assert_eq!(session.reply().unwrap().code, 220);
    assert!(session.say("EHLO client.example").text.lines().any(|line| line == "SIZE 65536"));
    assert_reply(&session.say("MAIL FROM:<a@example.com> SIZE=65537"), 552, TOO_LARGE);
    assert_reply(&session.say("MAIL FROM:<a@example.com> SIZE=99999999999999999999"), 552, TOO_LARGE);
    assert_eq!(session.say("MAIL FROM:<a@example.com> SIZE=65536").code, 250);
    assert_eq!(session.say("RSET").code, 250);

    let fits = sized(limit);
    for over in [1, 100, 100 << 10] {
        let text = sized(limit + over);
        // What it said before does not count.
        assert_eq!(session.say("MAIL FROM:<a@example.com> SIZE=10").code, 250);
        assert_eq!(session.say("RCPT TO:<b@example.net>").code, 250);
        assert_reply(&session.data(&text), 552, TOO_LARGE);
        session.envelope("a@example.com", &["b@example.net"]);
        assert_reply(&session.bdat(&text), 552, TOO_LARGE);
    }
    // In chunks that are each small enough.
    session.envelope("a@example.com", &["b@example.net"]);
    let half = [b"BDAT 65536\r\n", &fits[..]].concat();
    assert_eq!(session.send(&half).code, 250);
    assert_reply(&session.send(&half), 552, TOO_LARGE);
    assert_eq!(session.send(b"BDAT 0 LAST\r\n").code, 503);

    for bdat in [true, false] {
        session.envelope("a@example.com", &["b@example.net"]);
        let reply = if bdat { session.bdat(&fits) } else { session.data(&fits) };
        assert_eq!(reply.code, 250, "{reply}");
    }
    assert!(peer.wait_for(2).iter().all(|taken| below_trace(&taken.text) == fits));
    still_takes_mail(&node, &peer, 2);
}

#[test]
fn a_text_that_goes_on_and_on_ends_the_session() {
    let (node, peer) = start("[limits]\nmessage = \"64KiB\"");
    for endless in ["DATA\r\n", "BDAT 18446744073709551615 LAST\r\n"] {
        let mut session = Session::open(node.smtp());
        session.envelope("a@example.com", &["b@example.net"]);
        session.write(endless.as_bytes()).unwrap();
        let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
        let sent = (0..64 << 10).take_while(|_| session.write(&line).is_ok()).count();
        // Far more than fits into the buffers between the two.
        assert!(sent < 64 << 10, "64 MiB were taken");
    }
    until("the end of both", || (node.json(&["status"])["sessions"] == 0).then_some(()));
    still_takes_mail(&node, &peer, 0);
}

/// A message of so many bytes.
fn sized(bytes: usize) -> Vec<u8> {
    let mut text = message("sized", bytes - 100);
    let left = bytes - text.len() - 2;
    text.extend(vec![b'x'; left]);
    text.extend(b"\r\n");
    assert_eq!(text.len(), bytes);
    text
}

#[test]
fn lines_headers_and_hops_have_their_limits() {
    let (node, peer) = start("[limits]\ntext-line = \"1000\"\nheader = \"2KiB\"\nhops = 3");
    let mut session = Session::open(node.smtp());
    let line = "x".repeat(1000);
    let header = "Subject: many\r\n".to_owned() + &"X-Field: value\r\n".repeat(150);
    let hop = "Received: from a by b; Fri, 20 Nov 2026 08:30:00 +0000\r\n";
    for (text, code, why) in [
        (
            format!("Subject: line\r\n\r\n{line}x\r\n"),
            550,
            "5.6.0 message has a line longer than this host takes",
        ),
        (
            format!("Subject: {line}\r\n\r\nhello\r\n"),
            550,
            "5.6.0 message has a line longer than this host takes",
        ),
        (format!("{header}\r\nhello\r\n"), 552, "5.3.4 message header is larger than this host takes"),
        (
            hop.repeat(4) + "\r\nhello\r\n",
            554,
            "5.4.6 too many Received: fields: the message goes in circles",
        ),
    ] {
        session.envelope("a@example.com", &["b@example.net"]);
        assert_reply(&session.data(text.as_bytes()), code, why);
        session.envelope("a@example.com", &["b@example.net"]);
        assert_reply(&session.bdat(text.as_bytes()), code, why);
    }
    let fits = format!("{}Subject: fits\r\n\r\n{line}\r\n{}", hop.repeat(3), hop.repeat(9));
    session.envelope("a@example.com", &["b@example.net"]);
    assert_eq!(session.data(fits.as_bytes()).code, 250);
    assert_eq!(below_trace(&peer.wait_for(1)[0].text), fits.as_bytes());
    still_takes_mail(&node, &peer, 1);
}

#[test]
fn recipients_beyond_the_limit_are_put_off_and_the_others_get_the_message() {
    let (node, peer) = start("[limits]\nrecipients = 3");
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["1@example.net", "2@example.net", "3@example.net"]);
    for address in ["4@example.net", "5@example.net"] {
        let reply = session.say(&format!("RCPT TO:<{address}>"));
        assert_reply(&reply, 452, "4.5.3 too many recipients: send the rest in another message");
    }
    assert_eq!(session.data(b"Subject: three\r\n\r\nhello\r\n").code, 250);
    assert_eq!(peer.wait_for(1)[0].recipients, ["1@example.net", "2@example.net", "3@example.net"]);
    still_takes_mail(&node, &peer, 1);
}

#[test]
fn a_session_that_only_errs_is_ended() {
    let (node, peer) = start("[limits]\nerrors = 3");
    let mut session = Session::open(node.smtp());
    assert_eq!(session.say("NONSENSE").code, 500);
    assert_eq!(session.say("DATA").code, 503);
    assert_eq!(session.say("RCPT TO:nobody").code, 501);
    assert_eq!(session.farewell(), "421 4.7.0 too many errors\r\n");

    // Chunks that come to nothing count as well, and what is pipelined behind the end is not taken.
    let mut session = Session::open(node.smtp());
    session
        .write(&[b"BDAT 4\r\nQUIT".repeat(4), b"MAIL FROM:<a@example.com>\r\n".to_vec()].concat())
        .unwrap();
    let said = session.farewell();
    assert_eq!(said, "503 5.5.1 MAIL comes first\r\n".repeat(3) + "421 4.7.0 too many errors\r\n");

    let mut session = Session::open(node.smtp());
    session.write(&b"NOOP\r\n".repeat(200)).unwrap();
    let said = session.farewell();
    assert!(said.ends_with("250 2.0.0 ok\r\n421 4.7.0 too many commands without a message\r\n"), "{said}");
    still_takes_mail(&node, &peer, 0);
}

#[test]
fn commands_that_are_unknown_wrong_or_out_of_order_are_refused_one_by_one() {
    let (node, peer) = start("[limits]\nerrors = 1000");
    let mut session = Session::connect(node.smtp()).unwrap();
    assert_eq!(session.reply().unwrap().code, 220);
    for (line, code) in [
        ("MAIL FROM:<a@example.com>", 503),
        ("RCPT TO:<b@example.net>", 503),
        ("DATA", 503),
        ("BDAT 7\r\nhello", 503),
        ("EHLO", 501),
        ("EHLO two words", 501),
        ("EHLO client.example", 250),
        ("", 500),
        ("HELLO", 500),
        ("\u{1}\u{2}", 500),
        ("AUTH PLAIN AGEAYg==", 502),
        ("STARTTLS", 502),
        ("EXPN staff", 502),
        ("VRFY b@example.net", 252),
        ("HELP", 214),
        ("RCPT TO:<b@example.net>", 503),
        ("MAIL FROM:a@example.com", 501),
        ("MAIL FROM:<a@>", 501),
        ("MAIL FROM:<a@example.com> FOO=1", 555),
        ("MAIL FROM:<a@example.com> RET=HDRS", 555),
        ("MAIL FROM:<a@example.com> SIZE=many", 501),
        ("MAIL FROM:<a@example.com> SIZE=1 SIZE=1", 501),
        ("MAIL FROM:<a@example.com> BODY=BINARYMIME", 501),
        ("MAIL FROM:<j\u{f6}rg@example.com>", 553),
        ("MAIL FROM:<a@example.com> BODY=8BITMIME", 250),
        ("MAIL FROM:<a@example.com>", 503),
        ("DATA", 554),
        ("RCPT TO:<>", 501),
        ("RCPT TO:<nobody>", 501),
        ("RCPT TO:<b@example.net> NOTIFY=NEVER", 555),
        ("RCPT TO:<\u{3b1}@example.net>", 553),
        ("RCPT TO:<b@example.net>", 250),
        ("DATA now", 501),
        ("RSET", 250),
        ("DATA", 503),
    ] {
        let reply = session.say(line);
        assert_eq!(reply.code, code, "{line:?}: {reply}");
    }
    let long = session.say(&format!("NOOP {}", "x".repeat(3000)));
    assert_reply(&long, 500, "5.5.6 line too long");
    assert_reply(&session.send(b"RSET\nNOOP\r\n"), 500, "5.5.2 lines must end in CRLF");
    assert_reply(&session.reply().unwrap(), 250, "2.0.0 ok");
    for (line, last) in [
        ("GET / HTTP/1.1", "421 4.7.0 this is not that kind of server\r\n"),
        ("BDAT all", "501 5.5.4 like this: BDAT size [LAST]\r\n"),
        ("QUIT", "221 2.0.0 bye\r\n"),
    ] {
        let mut session = Session::open(node.smtp());
        session.write(format!("{line}\r\nMAIL FROM:<a@example.com>\r\n").as_bytes()).unwrap();
        assert_eq!(session.farewell(), last, "{line}");
    }
    still_takes_mail(&node, &peer, 0);
}

/// The first words of the node to a client at this address of this machine.
fn greeting(node: &Node, client: &str) -> String {
    let script = "
import socket, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10, (sys.argv[2], 0)) as client:
    print(client.recv(1000).decode(), end='')";
    tools::python(script, &[&node.smtp().port().to_string(), client], b"")
}

#[test]
fn a_client_has_so_many_sessions_and_others_have_theirs() {
    let (node, peer) = start("[limits]\nsessions-per-client = 2");
    let (first, second) = (Session::open(node.smtp()), Session::open(node.smtp()));
    let third = Session::connect(node.smtp()).unwrap();
    assert_eq!(third.farewell(), "421 4.7.0 too many sessions from your address; try again later\r\n");
    assert_eq!(greeting(&node, "127.0.0.2"), "220 mx1.example.org ESMTP Posthouse\r\n");
    drop(first);
    until("a place for another session", || Session::greeted(node.smtp()).ok());
    drop(second);
    assert!(metric(&node, "posthouse_sessions_turned_away_total") >= 1);
    until("a place for two more", || (node.json(&["status"])["sessions"] == 0).then_some(()));
    still_takes_mail(&node, &peer, 0);
}

#[test]
fn there_are_so_many_sessions_in_all() {
    let (node, peer) = start("[limits]\nsessions = 2");
    let sessions = [Session::open(node.smtp()), Session::open(node.smtp())];
    for client in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(greeting(&node, client), "421 4.7.0 too many sessions; try again later\r\n");
    }
    // Those who are in stay in.
    for mut session in sessions {
        assert_eq!(session.say("NOOP").code, 250);
        assert_eq!(session.say("QUIT").code, 221);
    }
    until("a place for another session", || Session::greeted(node.smtp()).ok());
    until("both places", || (node.json(&["status"])["sessions"] == 0).then_some(()));
    still_takes_mail(&node, &peer, 0);
}

#[test]
fn a_silent_session_is_ended_wherever_it_stands_and_one_that_speaks_is_not() {
    let (node, peer) = start("[limits]\nidle = \"2s\"");
    let mut silent = Vec::new();
    for steps in 0..5 {
        let mut session = Session::open(node.smtp());
        let lines = ["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>", "DATA"];
        for line in &lines[..steps.min(3)] {
            assert!(session.say(line).code < 400);
        }
        if steps == 4 {
            session.write(b"Subject: half\r\n\r\nThis is not the e").unwrap();
        }
        silent.push(thread::spawn(move || session.farewell()));
    }
    let mut speaking = Session::open(node.smtp());
    speaking.envelope("a@example.com", &["b@example.net"]);
    until("the end of the silent sessions", || {
        assert_eq!(speaking.say("NOOP").code, 250);
        // More often than the limit says, and less often than the limit of such commands allows.
        testkit::wait::pass(std::time::Duration::from_millis(100));
        silent.iter().all(thread::JoinHandle::is_finished).then_some(())
    });
    for ended in silent {
        assert_eq!(ended.join().unwrap(), "421 4.4.2 silent for too long, closing\r\n");
    }
    assert_eq!(speaking.data(b"Subject: awake\r\n\r\nhello\r\n").code, 250);
    assert_eq!(peer.wait_for(1).len(), 1);
    still_takes_mail(&node, &peer, 1);
}

#[test]
fn texts_that_do_not_fit_into_memory_are_put_off_and_come_later() {
    let (node, peer) = start("[limits]\nreceive-memory = \"4MiB\"");
    let text = message("big", 900 << 10);
    let mut inside = Vec::new();
    let put_off = until("a text that does not fit", || {
        let mut session = Session::open(node.smtp());
        session.envelope("a@example.com", &["inside@example.net"]);
        let chunk = [format!("BDAT {}\r\n", text.len()).as_bytes(), &text].concat();
        // Once the chunk is answered, it is held.
        match session.send(&chunk) {
            Reply { code: 250, .. } => inside.push(session),
            reply => return Some(reply),
        }
        None
    });
    assert_reply(&put_off, 452, NO_MEMORY);
    assert!((2..=4).contains(&inside.len()), "{} fit", inside.len());
    let mut outside = Session::open(node.smtp());
    for _ in 0..3 {
        outside.envelope("a@example.com", &["outside@example.net"]);
        assert_reply(&outside.data(&text), 452, NO_MEMORY);
    }
    // Who holds little still comes in.
    still_takes_mail(&node, &peer, 0);
    for session in &mut inside {
        assert_eq!(session.send(b"BDAT 0 LAST\r\n").code, 250);
    }
    outside.envelope("a@example.com", &["outside@example.net"]);
    assert_eq!(outside.data(&text).code, 250);
    let taken = peer.wait_for(inside.len() + 2);
    assert!(taken[1..].iter().all(|taken| below_trace(&taken.text) == text));
    still_takes_mail(&node, &peer, inside.len() + 2);
}

#[test]
fn with_hardly_any_memory_left_newcomers_are_turned_away_and_those_inside_come_to_their_end() {
    let (node, peer) = start("[limits]\nreceive-memory = \"2MiB\"");
    let text = message("piece", 100 << 10);
    let mut inside = Vec::new();
    let refusal = until("newcomers are turned away", || {
        let mut session = match Session::greeted(node.smtp()) {
            Ok(session) => session,
            Err(error) => return Some(error.to_string()),
        };
        session.envelope("a@example.com", &["inside@example.net"]);
        let chunk = [format!("BDAT {}\r\n", text.len()).as_bytes(), &text].concat();
        assert_eq!(session.send(&chunk).code, 250);
        inside.push(session);
        None
    });
    assert_eq!(refusal, "421 4.7.0 too much mail is coming in at once; try again later");
    assert_eq!(metric(&node, "posthouse_sessions_turned_away_total"), 1);
    for session in &mut inside {
        assert_eq!(session.send(b"BDAT 0 LAST\r\n").code, 250);
    }
    assert_eq!(peer.wait_for(inside.len()).len(), inside.len());
    still_takes_mail(&node, &peer, inside.len());
}

const NO_MEMORY: &str = "4.3.1 too much mail is coming in at once; try again later";

#[test]
fn a_node_with_two_doors_takes_mail_at_both() {
    let (peer, folder) = (Peer::willing(), setup(""));
    let mut command = Command::new(PROGRAM);
    command.args([
        "up",
        "--json",
        "--smtp",
        "127.0.0.1:0",
        "--smtp",
        "127.0.0.1:0",
        "--console",
        "127.0.0.1:0",
    ]);
    command.args(["--smarthost", &peer.address().to_string()]).arg("--data-dir").arg(folder.data_dir());
    let node = Program::start(command.arg("--config").arg(folder.folder().join("posthouse.toml")));
    let line: Value = serde_json::from_str(&node.said("the node is running")).unwrap();
    let doors = line["smtp"].as_str().unwrap().trim_matches(['[', ']']).split(", ");
    let doors: Vec<SocketAddr> = doors.map(|door| door.parse().unwrap()).collect();
    assert_eq!(doors.len(), 2);
    for door in &doors {
        let mut session = Session::open(*door);
        session.envelope("a@example.com", &["b@example.net"]);
        assert_eq!(session.data(b"Subject: door\r\n\r\nhello\r\n").code, 250);
    }
    assert_eq!(peer.wait_for(2).len(), 2);
    node.interrupt();
    assert_eq!(node.ended().code, Some(0));
    for door in doors {
        assert!(Session::greeted(door).is_err(), "{door} is still open");
    }
}

#[test]
fn many_messages_in_one_stream_are_not_taken_for_a_text_without_an_end() {
    let (node, peer) = start("[limits]\nmessage = \"64KiB\"");
    let mut session = Session::open(node.smtp());
    // Over four times the largest message in all, each of them within it, and no pause between.
    let line = b"All work and no play makes a dull text, and so it goes on and on.\r\n";
    let mut stream = Vec::new();
    for number in 0..20 {
        stream.extend_from_slice(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n");
        stream.extend_from_slice(format!("Subject: {number}\r\n\r\n").as_bytes());
        stream.extend_from_slice(&line.repeat(300));
        stream.extend_from_slice(b".\r\n");
    }
    session.write(&stream).expect("the session goes on");
    for _ in 0..20 {
        let codes = [250, 250, 354, 250].map(|_| session.reply().expect("it is answered").code);
        assert_eq!(codes, [250, 250, 354, 250]);
    }
    assert_eq!(peer.wait_for(20).len(), 20);
}
