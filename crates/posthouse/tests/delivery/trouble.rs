//! Next hops that break off, say nothing or say too much: nothing is lost, and nobody else waits.

use testkit::{Gate, Moment, Move, Peer, Setup, node::word, text::message};

use super::{SHORT, Tally, send, setup, words};

/// The steps of a conversation.
const STEPS: [&str; 7] = ["connected", "hello", "mail", "recipient", "data", "text", "dot"];

fn step(moment: &Moment<'_>) -> &'static str {
    match moment {
        Moment::Connected => "connected",
        Moment::Hello(_) => "hello",
        Moment::Mail(_) => "mail",
        Moment::Recipient(_) => "recipient",
        Moment::Data => "data",
        Moment::Text => "text",
        Moment::StartTls => "starttls",
        Moment::Handshake => "handshake",
        Moment::Dot(_) => "dot",
    }
}

/// A peer that does this the first time it comes to a step.
fn once_at(at: &'static str, what: Move) -> Peer {
    let seen = Tally::default();
    Peer::start(
        move |moment| {
            if step(moment) == at && seen.before(at) == 0 { what.clone() } else { Move::Go }
        },
    )
}

#[test]
fn a_host_that_breaks_off_at_any_step_gets_the_message_at_the_next_try() {
    for at in STEPS {
        let peer = once_at(at, Move::Break);
        let node = setup(&peer).start();
        // Large enough that the host breaks off in the middle of it.
        let text = message("broken", 400_000);
        send(&node, &["u@example.net"], &text);
        let records = node.records_of("u@example.net", 3);
        assert_eq!(words(&records), ["accepted", "deferred", "delivered"], "{at}");
        assert_eq!(records[1]["reason"], "lost", "{at}: {}", records[1]);
        // In the middle of a text the host may have it all unread: only the reply to the dot could tell.
        let nobody_knows = word(&records[1], "reply").ends_with("(after message)");
        assert!(at == "text" || nobody_knows == (at == "dot"), "{}", records[1]);
        let taken = peer.taken();
        assert_eq!(taken.len(), if at == "dot" { 2 } else { 1 }, "{at}");
        assert!(taken.iter().all(|taken| testkit::text::below_trace(&taken.text) == text), "{at}");
    }
}

#[test]
fn a_host_that_says_421_at_any_step_gets_the_message_at_the_next_try() {
    for at in STEPS.into_iter().filter(|at| *at != "text") {
        let peer = once_at(at, Move::Say("421 4.3.2 going down".into()));
        let node = setup(&peer).start();
        send(&node, &["u@example.net"], SHORT);
        let records = node.records_of("u@example.net", 3);
        assert_eq!(words(&records), ["accepted", "deferred", "delivered"], "{at}");
        assert_eq!(records[1]["reply"], "421 4.3.2 going down", "{at}");
    }
}

#[test]
fn a_host_that_talks_without_end_harms_nobody_and_gets_the_message_at_the_next_try() {
    let endless = format!("250 {}", "x".repeat(3 << 20));
    for babble in
        [Move::Babble, Move::Say(endless), Move::Say("nonsense".into()), Move::Say("999 9.9.9 ?".into())]
    {
        for at in STEPS.into_iter().filter(|at| *at != "text") {
            let (peer, other) = (once_at(at, babble.clone()), Peer::willing());
            let node = setup(&peer).flag("--route", format!("example.org={}", other.address())).start();
            send(&node, &["u@example.net", "v@example.org"], SHORT);
            let records = node.records_of("u@example.net", 3);
            let reason = word(&records[1], "reason");
            assert_eq!(words(&records), ["accepted", "deferred", "delivered"], "{at}: {records:?}");
            assert_eq!(reason, "protocol", "{at}: {}", records[1]);
            assert_eq!(other.count(), 1);
            assert!(node.resident() < 200 << 20, "{} bytes of memory", node.resident());
        }
    }
}

#[test]
fn a_silent_host_is_given_up_after_the_time_for_that_step_and_nobody_else_waits() {
    for (at, timeout) in [
        ("connected", "greeting"),
        ("hello", "greeting"),
        ("mail", "command"),
        ("dot", "dot"),
        ("mail", "burst"),
        ("recipient", "burst"),
    ] {
        let gate = Gate::new();
        let (silent, seen) = (gate.clone(), Tally::default());
        let peer = Peer::start(move |moment| {
            if step(moment) == at && seen.before(at) == 0 {
                silent.pass();
                return Move::Break;
            }
            Move::Go
        });
        let other = Peer::willing();
        let node = setup(&peer)
            .flag("--route", format!("example.org={}", other.address()))
            .file(&format!("delivery.timeout.{timeout} = '1s'"))
            .start();
        send(&node, &["u@example.net", "v@example.org"], SHORT);
        gate.reached(1);
        // The other one goes while this one is silent.
        assert_eq!(other.wait_for(1)[0].recipients, ["v@example.org"]);
        let records = node.records_of("u@example.net", 2);
        assert_eq!(
            (&records[1]["what"], &records[1]["reason"]),
            (&"deferred".into(), &"timeout".into()),
            "{at}"
        );
        if timeout == "burst" {
            let reply = "451 4.4.2 not through within 1 s";
            assert!(word(&records[1], "reply").starts_with(reply), "{}", records[1]);
        }
        gate.open();
        assert_eq!(words(&node.records_of("u@example.net", 3))[2], "delivered", "{at}");
    }
}

#[test]
fn where_nobody_listens_the_message_waits_and_says_why() {
    // A port that no other test can be given meanwhile.
    let nobody = "127.0.0.1:1";
    let setup = Setup::new(env!("CARGO_BIN_EXE_posthouse"));
    let node = setup.flag("--smarthost", nobody).flag("--retry", "1h").start();
    send(&node, &["u@example.net"], SHORT);
    let records = node.records_of("u@example.net", 2);
    assert_eq!((&records[1]["what"], &records[1]["reason"]), (&"deferred".into(), &"connect".into()));
    assert!(word(&records[1], "reply").starts_with("451 4.4.1 "), "{}", records[1]);
    let queue = node.json(&["mail", "queue"]);
    let destination = &queue["destinations"][0];
    assert_eq!((&destination["domain"], &destination["recipients"]), (&"example.net".into(), &1.into()));
    assert_eq!(destination["last_reply"], records[1]["reply"]);
}
