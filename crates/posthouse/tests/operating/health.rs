//! What the console address says of the node.

use testkit::{Gate, Moment, Move, Peer, Session, until};

use super::{send, setup, unwilling};

/// The status line and the body of an answer.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
    (head.lines().next().unwrap_or_default(), body)
}

#[test]
fn a_running_node_is_healthy_and_ready_and_what_is_not_there_is_not_found() {
    let node = setup().start();
    assert_eq!(parts(&node.get("/healthz")), ("HTTP/1.1 200 OK", "ok\n"));
    assert_eq!(parts(&node.get("/readyz")), ("HTTP/1.1 200 OK", "ready\n"));
    assert_eq!(parts(&node.get("/nothing")).0, "HTTP/1.1 404 Not Found");
    let page = node.get("/");
    assert!(page.contains("<h1>mx1</h1>") && page.contains("href=\"/metrics\""), "{page}");
    assert!(page.contains("<p>It stands alone. More with <code>posthouse status</code>"), "{page}");
}

#[test]
fn a_stopping_node_lives_and_is_not_ready() {
    let gate = Gate::new();
    let entry = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) {
            entry.pass();
        }
        Move::Go
    });
    let mut node = setup().to(&peer).start();
    send(&node, "b@example.net", "slow");
    gate.reached(1);
    node.terminate();
    until("the node not to be ready", || {
        (parts(&node.get("/readyz"))
            == ("HTTP/1.1 503 Service Unavailable", "not ready: the node is stopping\n"))
            .then_some(())
    });
    assert_eq!(parts(&node.get("/healthz")).0, "HTTP/1.1 200 OK");
    let status = node.json(&["status"]);
    assert_eq!((&status["ready"], &status["reason"]), (&false.into(), &"the node is stopping".into()));
    gate.open();
    assert!(node.ended().success());
}

#[test]
fn a_node_that_can_let_nobody_in_is_not_ready() {
    let node = setup().file("limits.sessions = 2").start();
    let one = Session::open(node.smtp());
    assert_eq!(parts(&node.get("/readyz")).1, "ready\n");
    let _other = Session::open(node.smtp());
    let full = "not ready: it has as many sessions as limits.sessions allows\n";
    assert_eq!(parts(&node.get("/readyz")), ("HTTP/1.1 503 Service Unavailable", full));
    drop(one);
    until("room", || (parts(&node.get("/readyz")).1 == "ready\n").then_some(()));
}

#[test]
fn each_metric_has_a_text_and_a_kind_and_says_what_the_status_says() {
    let (peer, _mood) = unwilling();
    let node = setup().to(&peer).start();
    for number in 1..=3 {
        send(&node, &format!("b{number}@example.net"), "count me");
    }
    node.counts("deferred", 3);
    let answer = node.get("/metrics");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let lines: Vec<&str> = parts(&answer).1.lines().collect();
    let mut values = std::collections::BTreeMap::new();
    for metric in lines.chunks(3) {
        let [help, kind, value] = metric else { panic!("{metric:?}") };
        let (name, value) = value.split_once(' ').unwrap();
        assert!(name.starts_with("posthouse_") && help.starts_with(&format!("# HELP {name} ")), "{help}");
        let ends = if name.ends_with("_total") { "counter" } else { "gauge" };
        assert_eq!(*kind, format!("# TYPE {name} {ends}"));
        assert_eq!(values.insert(name, value.parse::<u64>().unwrap()), None, "{name} comes twice");
    }
    let status = node.json(&["status"]);
    for (name, field) in [
        ("posthouse_recipients_accepted_total", "accepted"),
        ("posthouse_recipients_delivered_total", "delivered"),
        ("posthouse_recipients_deferred_total", "deferred"),
        ("posthouse_recipients_bounced_total", "bounced"),
        ("posthouse_queue_recipients", "queued"),
        ("posthouse_queue_works", "queued_works"),
    ] {
        assert_eq!(status[field], values[name], "{name}");
    }
    assert_eq!((values["posthouse_queue_recipients"], values["posthouse_spool_damaged"]), (3, 0));
}
