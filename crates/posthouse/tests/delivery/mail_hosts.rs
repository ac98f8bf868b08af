//! Mail without a route: it goes to the hosts that DNS names for its domain, in their order.

use serde_json::Value;
use testkit::{Character, Data, Dns, Gate, Moment, Move, Node, Peer, Setup, node::word, text::field};

use super::{SHORT, send, words};

/// A node that asks this server, and finds mail hosts at the port of this peer, which takes reports to `example.com` as well.
fn setup(dns: &Dns, peer: &Peer) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse"))
        .flag("--retry", "100ms")
        .flag("--route", format!("example.com={}", peer.address()))
        .file(&format!("{}delivery.port = {}", dns.setting(), peer.address().port()))
}

/// A peer at another address of this machine, and with this port if it is not 0.
fn peer_at(address: &str, port: u16, plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static) -> Peer {
    let address = (address.parse::<std::net::IpAddr>().expect("it is an address"), port).into();
    Peer::of(Character { address, ..Character::default() }, plan)
}

fn end_of(node: &Node, recipient: &str, count: usize) -> Value {
    node.records_of(recipient, count).pop().expect("there are some")
}

#[test]
fn mail_goes_to_the_next_host_where_the_preferred_one_is_dead() {
    let (dns, peer) = (Dns::start(), peer_at("127.0.0.3", 0, |_| Move::Go));
    dns.mail("example.net", &[(20, "mx2.example.net"), (10, "mx1.example.net")]);
    dns.host("mx1.example.net", &["127.0.0.2"]);
    dns.host("mx2.example.net", &["127.0.0.3"]);
    let node = setup(&dns, &peer).start();
    send(&node, &["u@example.net"], SHORT);
    let end = end_of(&node, "u@example.net", 2);
    let port = peer.address().port();
    assert_eq!((word(&end, "what"), &end["attempt"]), ("delivered", &1.into()), "{end}");
    assert_eq!(word(&end, "remote_host"), format!("mx2.example.net:{port}"));
    assert_eq!(word(&end, "remote_address"), format!("127.0.0.3:{port}"));
}

#[test]
fn a_dead_host_costs_once_and_is_asked_again_where_no_other_answers() {
    let (dns, peer) = (Dns::start(), peer_at("127.0.0.3", 0, |_| Move::Go));
    dns.mail("example.net", &[(10, "mx1.example.net"), (20, "mx2.example.net")]);
    dns.host("mx1.example.net", &["127.0.0.2"]);
    dns.host("mx2.example.net", &["127.0.0.3"]);
    let node = setup(&dns, &peer).start();
    let failures = || {
        let metrics = node.get("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("posthouse_connect_failures_total "));
        line.expect("it is counted").to_owned()
    };
    for round in 1..=3 {
        send(&node, &["u@example.net"], SHORT);
        assert_eq!(peer.wait_for(round).len(), round);
        assert!(failures().ends_with(" 1"), "{}", failures());
        peer.hang_up();
    }
    let port = peer.address().port();
    drop(peer);
    let back = peer_at("127.0.0.2", port, |_| Move::Go);
    send(&node, &["u@example.net"], SHORT);
    assert_eq!(back.wait_for(1)[0].recipients, ["u@example.net"]);
}

#[test]
fn mail_goes_to_the_next_host_where_the_preferred_one_wants_no_session() {
    for (at, reply) in
        [("greeting", "554 5.3.2 not here"), ("greeting", "421 4.3.2 busy"), ("hello", "550 5.7.1 go away")]
    {
        let dns = Dns::start();
        let picky = peer_at("127.0.0.2", 0, move |moment| match moment {
            Moment::Connected if at == "greeting" => Move::Say(reply.into()),
            Moment::Hello(_) if at == "hello" => Move::Say(reply.into()),
            _ => Move::Go,
        });
        let willing = peer_at("127.0.0.3", picky.address().port(), |_| Move::Go);
        dns.mail("example.net", &[(10, "mx1.example.net"), (20, "mx2.example.net")]);
        dns.host("mx1.example.net", &["127.0.0.2"]);
        dns.host("mx2.example.net", &["127.0.0.3"]);
        let node = setup(&dns, &willing).start();
        send(&node, &["u@example.net"], SHORT);
        assert_eq!(word(&end_of(&node, "u@example.net", 2), "what"), "delivered", "{at}: {reply}");
        assert_eq!((picky.count(), willing.count()), (0, 1));
    }
}

#[test]
fn what_a_host_says_of_a_recipient_is_the_last_word() {
    let dns = Dns::start();
    let refuses = |moment: &Moment<'_>| match moment {
        Moment::Recipient(_) => Move::Say("550 5.1.1 nobody of that name".into()),
        _ => Move::Go,
    };
    let first = peer_at("127.0.0.2", 0, refuses);
    let second = peer_at("127.0.0.3", first.address().port(), |_| Move::Go);
    dns.mail("example.net", &[(10, "mx1.example.net"), (20, "mx2.example.net")]);
    dns.host("mx1.example.net", &["127.0.0.2"]);
    dns.host("mx2.example.net", &["127.0.0.3"]);
    let node = setup(&dns, &second).start();
    send(&node, &["u@example.net"], SHORT);
    let end = end_of(&node, "u@example.net", 2);
    assert_eq!((word(&end, "what"), word(&end, "reason")), ("failed", "rcpt"));
    assert!(word(&end, "remote_host").starts_with("mx1.example.net:"));
    // All that comes to the second host is the report.
    assert_eq!(second.wait_for(1)[0].sender, "");
}

#[test]
fn both_families_of_addresses_are_tried() {
    let (dns, six) = (Dns::start(), peer_at("::1", 0, |_| Move::Go));
    let four = peer_at("127.0.0.2", six.address().port(), |_| Move::Go);
    dns.host("six.example", &["::1", "127.0.0.3"]);
    dns.host("four.example", &["2001:db8::1", "127.0.0.2"]);
    let node = setup(&dns, &six).file(&format!(
        "{}delivery.port = {}\ndelivery.timeout.connect = '1s'",
        dns.setting(),
        six.address().port()
    ));
    let node = node.start();
    send(&node, &["u@six.example", "u@four.example"], SHORT);
    assert_eq!(six.wait_for(1)[0].recipients, ["u@six.example"]);
    assert_eq!(four.wait_for(1)[0].recipients, ["u@four.example"]);
    let end = end_of(&node, "u@four.example", 2);
    assert!(word(&end, "remote_address").starts_with("127.0.0.2:"), "{end}");
}

#[test]
fn a_domain_that_has_no_mail_host_takes_its_mail_itself() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.host("example.net", &["127.0.0.1"]);
    dns.has("alias.example.net", 60, &[Data::Cname("example.net".into())]);
    dns.mail("example.org", &[(10, "alias.example.net")]);
    let node = setup(&dns, &peer).start();
    send(&node, &["u@example.net", "u@[127.0.0.1]", "u@example.org"], SHORT);
    assert_eq!(peer.wait_for(3).len(), 3);
    let end = end_of(&node, "u@example.net", 2);
    assert_eq!(word(&end, "remote_host"), format!("example.net:{}", peer.address().port()));
    let end = end_of(&node, "u@[127.0.0.1]", 2);
    assert_eq!(word(&end, "remote_host"), peer.address().to_string());
}

#[test]
fn a_domain_beyond_ascii_is_found_by_its_a_labels() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.mail("xn--bcher-kva.example", &[(10, "mx.example.net")]);
    dns.host("mx.example.net", &["127.0.0.1"]);
    let node = setup(&dns, &peer).start();
    let mut session = testkit::Session::open(node.smtp());
    assert_eq!(session.say("MAIL FROM:<a@example.com> SMTPUTF8").code, 250);
    assert_eq!(session.say("RCPT TO:<u@bücher.example>").code, 250);
    assert_eq!(session.data(SHORT).code, 250);
    assert_eq!(peer.wait_for(1)[0].recipients, ["u@bücher.example"]);
}

#[test]
fn where_there_is_no_way_for_good_the_sender_is_told_at_once() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.has("null.example", 60, &[Data::Mx(0, ".".into())]);
    dns.has("empty.example", 60, &[]);
    dns.mail("lost.example", &[(10, "gone.example")]);
    dns.mail("mine.example", &[(10, "mx1.example.org"), (20, "mx2.example.net")]);
    let node = setup(&dns, &peer).start();
    for (number, (domain, reason, reply)) in [
        ("null.example", "null-mx", "556 5.1.10 null.example takes no mail (null MX)"),
        ("gone.example", "no-such-domain", "550 5.1.2 there is no domain gone.example"),
        ("empty.example", "no-such-domain", "550 5.1.2 empty.example has neither mail hosts nor an address"),
        ("lost.example", "no-address", "550 5.4.4 no mail host of the domain has an address: gone.example"),
        (
            "mine.example",
            "loop",
            "554 5.4.6 mail for mine.example comes to this host, which has no route for it",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let recipient = format!("u@{domain}");
        send(&node, &[&recipient], SHORT);
        let end = end_of(&node, &recipient, 2);
        assert_eq!((word(&end, "what"), word(&end, "reason")), ("failed", reason));
        assert_eq!(word(&end, "reply"), reply);
        let report = peer.wait_for(number + 1).pop().expect("there are some");
        assert_eq!((&*report.sender, &report.recipients[..]), ("", &["a@example.com".to_owned()][..]));
        let text = String::from_utf8(report.text.clone()).unwrap();
        let (_, status_and_text) = reply.split_once(' ').unwrap();
        let (status, why) = status_and_text.split_once(' ').unwrap();
        assert!(text.contains(&format!("\r\nStatus: {status}\r\n")), "{text}");
        assert!(
            text.replace("\r\n\t", " ").contains(&format!("Diagnostic-Code: x-posthouse; {why}")),
            "{text}"
        );
        assert!(!text.contains("Remote-MTA"), "{text}");
        assert!(field(&report.text, "Subject").is_some());
    }
    assert_eq!(node.quiet().len(), 20);
}

#[test]
fn where_nobody_knows_mail_waits_and_goes_when_somebody_does() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.fails("example.net");
    dns.host("mx.example.net", &["127.0.0.1"]);
    let node = setup(&dns, &peer).start();
    send(&node, &["u@example.net"], SHORT);
    let deferred = node.records_of("u@example.net", 2).remove(1);
    assert_eq!((word(&deferred, "what"), word(&deferred, "reason")), ("deferred", "dns"));
    assert!(
        word(&deferred, "reply").starts_with("451 4.4.3 the mail hosts of example.net cannot be looked up: ")
    );
    dns.mail("example.net", &[(10, "mx.example.net")]);
    assert_eq!(peer.wait_for(1)[0].recipients, ["u@example.net"]);
    assert_eq!(words(&node.quiet()).last(), Some(&"delivered"));
}

#[test]
fn a_name_that_nobody_answers_for_holds_up_no_other() {
    let (dns, peer, gate) = (Dns::start(), Peer::willing(), Gate::new());
    dns.is_silent("silent.example");
    dns.waits("slow.example", &gate, &[Data::Mx(10, "mx.example.net".into())]);
    dns.mail("example.net", &[(10, "mx.example.net")]);
    dns.host("mx.example.net", &["127.0.0.1"]);
    let text = format!("{}dns.timeout = '1s'\ndelivery.port = {}", dns.setting(), peer.address().port());
    let node = setup(&dns, &peer).file(&text).start();
    send(&node, &["u@silent.example", "u@slow.example", "u@example.net"], SHORT);
    assert_eq!(peer.wait_for(1)[0].recipients, ["u@example.net"]);
    let deferred = node.records_of("u@silent.example", 2).remove(1);
    assert!(word(&deferred, "reply").ends_with("cannot be looked up: no name server answers"), "{deferred}");
    gate.open();
    assert_eq!(peer.wait_for(2)[1].recipients, ["u@slow.example"]);
}

#[test]
fn what_was_answered_is_not_asked_again_while_it_counts() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.mail("example.net", &[(10, "mx.example.net")]);
    dns.host("mx.example.net", &["127.0.0.1"]);
    let node = setup(&dns, &peer).start();
    for round in 1..=3 {
        send(&node, &["u@example.net", "u@gone.example"], SHORT);
        // The message, and the report that the other one failed.
        assert_eq!(peer.wait_for(round * 2).len(), round * 2);
        // The connection is kept no longer.
        peer.hang_up();
    }
    assert_eq!(dns.asked("example.net", "MX"), 1);
    assert_eq!(dns.asked("mx.example.net", "A"), 1);
    assert_eq!(dns.asked("mx.example.net", "AAAA"), 1);
    assert_eq!(dns.asked("gone.example", "MX"), 1);
    // That there is no such name was said of all its records.
    assert_eq!(dns.asked("gone.example", "A"), 0);
}

#[test]
fn an_answer_too_long_for_a_datagram_is_had_over_tcp() {
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.has_room_for(100);
    let hosts: Vec<String> = (0..20).map(|n| format!("mx{n}.example.net")).collect();
    dns.mail("example.net", &hosts.iter().map(|host| (10, &**host)).collect::<Vec<_>>());
    hosts.iter().for_each(|host| dns.host(host, &["127.0.0.1"]));
    let node = setup(&dns, &peer).start();
    send(&node, &["u@example.net"], SHORT);
    assert_eq!(peer.wait_for(1)[0].recipients, ["u@example.net"]);
}
