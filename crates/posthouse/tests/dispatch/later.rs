//! Mail for later, and mail that goes before other mail.

use std::time::{Duration, Instant};

use testkit::{Gate, Moment, Move, Peer, Session, until};

use super::{SHORT, setup};

#[test]
fn a_message_may_be_held_until_a_later_time() {
    let peer = Peer::willing();
    let node = setup(&peer, "").start();
    let mut session = Session::open(node.smtp());
    let hello = session.say("EHLO client.example.com");
    assert!(hello.text.contains("FUTURERELEASE 2592000 "), "{hello}");
    assert_eq!(session.say("MAIL FROM:<a@example.com> HOLDFOR=2").code, 250);
    assert_eq!(session.say("RCPT TO:<late@example.net>").code, 250);
    let began = Instant::now();
    assert_eq!(session.data(SHORT).code, 250);
    session.envelope("a@example.com", &["now@example.net"]);
    assert_eq!(session.data(SHORT).code, 250);
    let taken = peer.wait_for(2);
    assert_eq!(taken[0].recipients, ["now@example.net"]);
    assert!(taken[1].read.duration_since(began) >= Duration::from_millis(1900));
    let reply = session.say("MAIL FROM:<a@example.com> HOLDUNTIL=2999-01-01T00:00:00Z");
    assert_eq!((reply.code, reply.text.contains("30days at most")), (501, true), "{reply}");
}

#[test]
fn mail_of_a_higher_priority_goes_before_what_waits() {
    let gate = Gate::new();
    let held = gate.clone();
    let peer = Peer::start(move |moment| {
        if let Moment::Dot(_) = moment {
            held.pass();
        }
        Move::Go
    });
    let table = r#"
        [[delivery.destination]]
        domain = "*"
        connections = 1
        messages-per-connection = 1
    "#;
    let node = setup(&peer, table).start();
    let mut session = Session::open(node.smtp());
    session.say("EHLO client.example.com");
    for (n, priority) in [0, -9, 0, 9].into_iter().enumerate() {
        assert_eq!(session.say(&format!("MAIL FROM:<a@example.com> MT-PRIORITY={priority}")).code, 250);
        assert_eq!(session.say(&format!("RCPT TO:<u{n}@example.net>")).code, 250);
        assert_eq!(session.data(SHORT).code, 250);
        if n == 0 {
            // It is under way before the others come.
            gate.reached(1);
        }
    }
    until("the others at the dispatcher", || {
        node.get("/metrics").contains("\nposthouse_works_ready 3\n").then_some(())
    });
    gate.open();
    let order: Vec<String> = peer.wait_for(4).into_iter().map(|taken| taken.recipients[0].clone()).collect();
    assert_eq!(order, ["u0@example.net", "u3@example.net", "u2@example.net", "u1@example.net"]);
}
