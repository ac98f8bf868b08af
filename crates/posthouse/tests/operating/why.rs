//! Why a message waits: the reason that binds, and when it ends.

use testkit::{Data, Dns, Gate, Moment, Move, Peer, Setup, until};

use super::{PROGRAM, deferred, failed, send, setup, unwilling};

#[test]
fn a_deferred_message_says_which_reply_it_waits_for_and_how_long() {
    let (peer, mood) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let id = send(&node, "b@example.net", "wait");
    deferred(&node, 1);
    let text = node.command(&["mail", "why", &format!("{id}.0")]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{id}.0 for example.net (1 recipient) waits: retry"));
    assert_eq!(lines[1], "  attempt 1 did not end it: 450 4.2.0 not yet");
    assert!(lines[2].starts_with("  ends in ") && lines[2].ends_with(" UTC"), "{text}");
    let why = &node.json(&["mail", "why", &id])[0];
    assert_eq!((&why["reason"], &why["last_reply"]), (&"retry".into(), &"450 4.2.0 not yet".into()));
    assert!(why["until"].as_str().is_some(), "{why}");
    mood.brighten();
    assert_eq!(node.command(&["mail", "retry", "--id", &id, "--yes"]).code, Some(0));
    let _ = node.quiet();
    failed(
        &node.command(&["mail", "why", &id]),
        1,
        &format!("nothing of {id} waits"),
        "`posthouse mail show ID` tells what became of a message",
    );
}

#[test]
fn what_waits_for_something_else_says_for_what() {
    let (names, dots) = (Gate::new(), Gate::new());
    let held = dots.clone();
    let peer = Peer::start(move |moment| {
        if let Moment::Dot(_) = moment {
            held.pass();
        }
        Move::Go
    });
    let dns = Dns::start();
    dns.waits("asked.example", &names, &[Data::Mx(10, "mx.example.net".into())]);
    let tables = r#"
        [[delivery.destination]]
        domain = "one.example"
        connections = 1

        [[delivery.destination]]
        domain = "slow.example"
        messages-per-minute = 1
    "#;
    let node = Setup::new(PROGRAM)
        .file(&format!("{}spool.segment = \"4MiB\"\n{tables}", dns.setting()))
        .flag("--route", format!("one.example={}", peer.address()))
        .flag("--route", format!("slow.example={}", peer.address()))
        .start();
    let waits_for = |recipient: &str, reason: &str| {
        let id = send(&node, recipient, "wait");
        until(reason, || {
            let why = node.json(&["mail", "why", &id])[0].clone();
            (why["reason"] == reason).then_some(why)
        })
    };
    waits_for("a@one.example", "attempted");
    let why = waits_for("b@one.example", "connections");
    assert_eq!(why["site"], peer.address().to_string(), "{why}");
    assert!(why["text"].as_str().unwrap().starts_with("1 of the 1 connections"), "{why}");
    waits_for("c@slow.example", "attempted");
    let why = waits_for("d@slow.example", "throttled");
    assert_eq!(why["throttle"], "messages-per-minute", "{why}");
    assert!(why["until"].as_str().is_some(), "{why}");
    let why = waits_for("e@asked.example", "lookup");
    assert_eq!(why["text"], "the mail hosts of asked.example are being looked up");
    names.open();
    dots.open();
}

#[test]
fn of_a_pause_and_a_retry_what_ends_last_is_what_it_waits_for() {
    let (peer, _) = unwilling();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let id = send(&node, "b@example.net", "wait");
    deferred(&node, 1);
    let reason = || node.json(&["mail", "why", &id])[0]["reason"].clone();
    let pause = |time: &str| {
        let words = ["mail", "pause", "--domain", "example.net", "--for", time, "--yes"];
        let paused = node.command(&words);
        assert_eq!(paused.code, Some(0), "{paused:?}");
    };
    pause("1m");
    assert_eq!(reason(), "retry");
    pause("1day");
    assert_eq!(reason(), "paused");
}
