//! Posthouse as its operator sees it: commands and their answers, and one plain line for whatever is wrong.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use testkit::{
    Moment, Move, Node, Peer, Session, Setup,
    node::{number, word},
    text::{below_trace, field},
    tools::{self, Ran},
    until,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

fn setup() -> Setup {
    Setup::new(PROGRAM)
}

/// A peer that has no time for anybody at `later.example`.
fn busy_for_some() -> Peer {
    Peer::start(|moment| match moment {
        Moment::Recipient(to) if to.ends_with("@later.example") => Move::Say("450 4.2.0 busy".into()),
        _ => Move::Go,
    })
}

/// A command that failed with this exit code, one plain line that begins like this, and a hint; returns the hint.
#[track_caller]
fn fails(ran: &Ran, code: i32, line: &str) -> String {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let error = lines.first().and_then(|first| first.strip_prefix("error: ")).unwrap_or_default();
    assert!(error.starts_with(line), "not {line:?}, but {:?}", ran.stderr);
    let hint = lines.get(1).map(|hint| hint.strip_prefix("hint: ").expect("the second line is a hint"));
    assert!(lines.len() <= 2, "{:?}", ran.stderr);
    hint.unwrap_or_default().to_owned()
}

#[test]
fn status_queue_show_and_log_tell_the_same_story_to_people_and_programs() {
    let peer = busy_for_some();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let line = "mail send --from a@example.com --to u@example.net --to v@later.example --subject Hi --body Hello";
    let sent = node.json(&line.split(' ').collect::<Vec<_>>());
    let id = word(&sent, "id").to_owned();
    assert_eq!(sent["recipients"], 2);
    until("both tried and in the log", || (node.log().len() == 4).then_some(()));

    let status = node.json(&["status"]);
    for (field, value) in [("accepted", 2), ("delivered", 1), ("deferred", 1), ("bounced", 0), ("queued", 1)] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!((&status["ready"], &status["name"]), (&true.into(), &"mx1".into()));
    let shown = node.command(&["status"]).done();
    assert!(shown.starts_with("mx1 (standalone) is ready; up ") && shown.contains("\nqueued        1"), "{shown}");

    let works = node.json(&["mail", "queue", "later.example"]);
    let work = &works["works"][0];
    assert_eq!((word(work, "id"), number(work, "attempts")), (format!("{id}.1").as_str(), 1));
    assert_eq!((&work["reason"], &work["last_reply"]), (&"deferred".into(), &"450 4.2.0 busy".into()));
    let shown = node.command(&["mail", "queue"]).done();
    assert!(shown.starts_with("DESTINATION") && shown.contains("later.example") && shown.contains("450"), "{shown}");

    let story = node.json(&["mail", "show", &id]);
    let states: Vec<_> =
        story["recipients"].as_array().unwrap().iter().map(|to| (word(to, "address"), word(to, "state"))).collect();
    assert_eq!(states, [("u@example.net", "delivered"), ("v@later.example", "deferred")]);
    assert_eq!(story["records"].as_array().unwrap().len(), 4);
    let shown = node.command(&["mail", "show", &format!("{id}.1")]).done();
    assert!(shown.contains("v@later.example  deferred"), "{shown}");

    for (filter, count) in [
        (["--what", "deferred"], 1),
        (["--recipient", "*@EXAMPLE.net"], 2),
        (["--sender", "b@example.com"], 0),
        (["--since", "1h"], 4),
        (["--until", "1h"], 0),
        (["--limit", "3"], 3),
    ] {
        let shown = node.command(&[&["mail", "log", "--json"][..], &filter].concat()).done();
        assert_eq!(shown.lines().count(), count, "{filter:?}");
    }
    let shown = node.command(&["mail", "log"]).done();
    assert_eq!((shown.lines().count(), shown.starts_with("TIME")), (5, true), "{shown}");
}

#[test]
fn a_message_is_sent_from_standard_input_and_from_a_file() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    let envelope = ["mail", "send", "--from", "a@example.com", "--to", "u@example.net"];
    let shown = node.command_with(&envelope, b"Subject: piped\n\n.\nno end").done();
    assert!(shown.contains(" is queued for 1 recipient; "), "{shown}");
    assert_eq!(below_trace(&peer.wait_for(1)[0].text), b"Subject: piped\r\n\r\n.\r\nno end\r\n");

    let file = node.setup().folder().join("message.eml");
    fs::write(&file, "Subject: filed\r\n\r\nGr\u{fc}\u{df}e\r\n").unwrap();
    let _ = node.command(&[&envelope[..], &[file.to_str().unwrap()]].concat()).done();
    let taken = peer.wait_for(2);
    assert_eq!(field(&taken[1].text, "Subject"), Some("filed"));
    assert!(taken[1].mail.contains("BODY=8BITMIME"), "{}", taken[1].mail);

    let refused = node.command_with(&envelope, b"Subject: x\n\nbare\rreturn\n");
    fails(&refused, 1, "550 5.6.0 message has a CR without LF");
    let refused = node.command_with(&["mail", "send", "--from", "a@example.com", "--to", "nobody"], b"x\n");
    fails(&refused, 1, "501 5.1.3 ");
    let missing = node.command(&[&envelope[..], &["/nonexistent.eml"]].concat());
    fails(&missing, 1, "cannot read /nonexistent.eml: ");
}

#[test]
fn what_is_asked_of_nobody_or_wrongly_says_so() {
    let node = setup().to(&Peer::willing()).start();
    let unknown = node.command(&["mail", "show", "0195b3c4d5e67f808182838485868788"]);
    let hint = fails(&unknown, 1, "there is no message 0195b3c4d5e67f808182838485868788");
    assert!(hint.contains("posthouse mail log"), "{hint}");
    for wrong in [&["mail", "show", "12"][..], &["mail", "log", "--what", "eaten"], &["mail", "sned"], &["status", "now"]] {
        let ran = node.command(wrong);
        assert_eq!(ran.code, Some(2), "{wrong:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
    let mut node = node;
    node.stop();
    let hint = fails(&node.command(&["status"]), 1, "no node is running on ");
    assert!(hint.contains("posthouse up --data-dir "), "{hint}");
}

#[test]
fn a_port_or_a_data_directory_that_is_taken_is_named_with_what_to_do() {
    let node = setup().start();
    let taken = node.smtp();
    let other = setup().flag("--smtp", taken.to_string());
    let hint = fails(&other.fail(), 1, &format!("cannot listen on {taken} (smtp.listen): "));
    assert!(hint.starts_with("another program has this port"), "{hint}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let hint = fails(&setup().flag("--console", taken.to_string()).fail(), 1, &format!("cannot listen on {taken} (console.listen): "));
    assert!(hint.contains("console.listen"), "{hint}");

    let hint = fails(&node.setup().fail(), 1, "a node is already running on ");
    assert!(hint.contains("--data-dir"), "{hint}");
    assert_eq!(node.json(&["status"])["ready"], true);
}

#[test]
fn a_data_directory_that_is_not_ours_is_left_alone() {
    let foreign = setup();
    fs::create_dir(foreign.data_dir()).unwrap();
    fs::write(foreign.data_dir().join("thesis.tex"), "years of work").unwrap();
    let hint = fails(&foreign.fail(), 1, &format!("{} is not a data directory", foreign.data_dir().display()));
    assert!(hint.contains("--data-dir"), "{hint}");
    assert_eq!(fs::read_dir(foreign.data_dir()).unwrap().count(), 1);

    let in_the_way = setup();
    fs::write(in_the_way.data_dir(), "a file").unwrap();
    fails(&in_the_way.fail(), 1, &format!("the data directory {} cannot be used: ", in_the_way.data_dir().display()));
}

#[test]
fn a_slip_in_the_configuration_is_named_with_its_line_and_the_right_form() {
    for (file, line) in [
        ("[smtp]\nlisen = []", "2: there is no key \"smtp.lisen\"; did you mean \"smtp.listen\"?"),
        ("delivery.smart-host = 'a:1'", "1: there is no key \"delivery.smart-host\"; did you mean \"delivery.smarthost\"?"),
        ("\n\nlimits.message = 'huge'", "3: limits.message: \"huge\" is not a size"),
        ("delivery.expire = '5 fortnights'", "1: delivery.expire: \"5 fortnights\" is not a duration"),
        ("name = ", "1: "),
    ] {
        let setup = setup().file(file);
        let path = setup.folder().join("posthouse.toml");
        fails(&setup.fail(), 3, &format!("{}:{line}", path.display()));
    }
    let usage = setup().flag("--smarthost", "mail.example.com").fail();
    assert_eq!(usage.code, Some(2), "{}", usage.stderr);
    assert!(usage.stderr.contains("has no port; write mail.example.com:25"), "{}", usage.stderr);
    assert_eq!(setup().flag("--smart-host", "a:1").fail().code, Some(2));
}

#[test]
fn the_console_answers_health_readiness_and_metrics() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["u@example.net"]);
    assert_eq!(session.data(b"Subject: x\r\n\r\nhello\r\n").code, 250);
    node.counts("delivered", 1);
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(node.get("/readyz").starts_with("HTTP/1.1 200 "));
    let metrics = node.get("/metrics");
    for name in ["posthouse_recipients_accepted_total 1\n", "posthouse_recipients_delivered_total 1\n"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    for line in metrics.lines().filter(|line| line.starts_with("posthouse_")) {
        let name = line.split(' ').next().unwrap();
        assert!(metrics.contains(&format!("# HELP {name} ")) && metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[test]
fn what_lies_on_disk_is_for_the_node_alone() {
    let node = setup().start();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = node.setup().data_dir();
    assert_eq!((mode(&dir), mode(&dir.join("posthouse.sock"))), (0o700, 0o600));
}

/// A node with a message that waits, stopped.
fn stopped_with_mail() -> (Node, Peer) {
    let peer = busy_for_some();
    let mut node = setup().to(&peer).flag("--retry", "1h").file("spool.segment = '4MiB'").start();
    for number in 0..5 {
        let mut session = Session::open(node.smtp());
        session.envelope("a@example.com", &[&format!("u{number}@later.example")]);
        assert_eq!(session.data(&testkit::text::message("waits", 2000)).code, 250);
    }
    node.counts("deferred", 5);
    node.stop();
    (node, peer)
}

#[test]
fn a_flipped_bit_in_the_spool_is_set_aside_and_reported_and_the_rest_goes_on() {
    let (mut node, _peer) = stopped_with_mail();
    let segments = node.setup().data_dir().join("spool/segments");
    let mut flipped = 0;
    for entry in fs::read_dir(segments).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // The body of the third message.
        let bodies: Vec<usize> = testkit::text::places(&bytes, b"Subject: waits");
        if let Some(place) = bodies.get(2) {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[*place] ^ 1], *place as u64).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "the messages lie in one segment");
    node.restart();
    let metrics = node.get("/metrics");
    let damaged = metrics.lines().find_map(|line| line.strip_prefix("posthouse_spool_damaged "));
    assert_ne!(damaged, Some("0"), "{metrics}");
    let status = node.json(&["status"]);
    assert_eq!((&status["ready"], &status["queued"]), (&true.into(), &5.into()));
    let works = node.json(&["mail", "queue", "--all"]);
    let aside = works["works"].as_array().unwrap().iter().filter(|work| work["reason"] == "damaged").count();
    assert_eq!(aside, 1, "{works}");
}

#[test]
fn a_spool_of_garbage_never_panics() {
    let (node, _peer) = stopped_with_mail();
    let segments = node.setup().data_dir().join("spool/segments");
    for entry in fs::read_dir(segments).unwrap() {
        let path = entry.unwrap().path();
        let len = fs::metadata(&path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0xa5; 4096], 0).unwrap();
        file.write_all_at(&vec![0x5a; 4096], len.saturating_sub(4096)).unwrap();
    }
    let mut node = node;
    match node.try_restart() {
        Ok(()) => {
            let metrics = node.get("/metrics");
            assert!(!metrics.contains("\nposthouse_spool_damaged 0\n"), "garbage went unnoticed: {metrics}");
        }
        Err(ran) => {
            fails(&ran, 1, "the spool: ");
        }
    }
}

#[test]
fn a_message_log_of_a_newer_version_is_not_touched() {
    let (node, _peer) = stopped_with_mail();
    let log = node.setup().data_dir().join("message-log.sqlite");
    let script = "
import sqlite3, sys
log = sqlite3.connect(sys.argv[1])
log.execute('PRAGMA user_version = 99')
log.commit()";
    let _ = tools::python(script, &[log.to_str().unwrap()], b"");
    let before = fs::read(&log).unwrap();
    let ran = node.setup().fail();
    fails(&ran, 1, "");
    assert!(ran.stderr.contains("message-log.sqlite") && ran.stderr.contains("99"), "{}", ran.stderr);
    assert!(fs::read(&log).unwrap() == before, "the log was changed");
}
