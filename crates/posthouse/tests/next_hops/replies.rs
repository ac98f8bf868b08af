//! Hosts whose replies do not end, are none, or are too many or too few.

use testkit::{Moment, Move, Peer};

use super::{Between, Tally, deferrals, step};

const STEPS: [&str; 6] = ["connected", "hello", "mail", "recipient", "data", "dot"];

/// A host that does this the first time it comes to a step.
fn once_at(at: &'static str, what: Move) -> Peer {
    let seen = Tally::default();
    Peer::start(
        move |moment| if step(moment) == at && seen.before(at) == 0 { what.clone() } else { Move::Go },
    )
}

#[test]
fn a_line_without_end_is_cut_off_at_any_step() {
    for at in STEPS {
        let between = Between::start(once_at(at, Move::Drone), "delivery.connections = 1");
        between.send(2);
        between.others_go_on();
        let log = between.node.quiet();
        let deferrals = deferrals(&log);
        // Both if they were on their way together and neither had begun.
        assert!((1..=2).contains(&deferrals.len()), "{at}: {deferrals:?}");
        for (reason, reply) in deferrals {
            assert_eq!(reason, "protocol", "{at}");
            assert!(
                reply.starts_with("451 4.5.0 the remote host sent a reply with a line of over"),
                "{at}: {reply}"
            );
        }
        between.memory_is_bounded();
    }
}

#[test]
fn garbage_in_place_of_a_reply_is_no_reply_at_any_step() {
    let garbage = [
        "\0\0\0\u{1}\u{2}",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "250\u{a0}ok",
        "25O ok",
        "250ok",
        "\r\n250 ok",
        "-1 ok",
    ];
    for (at, garbage) in STEPS.into_iter().cycle().zip(garbage) {
        let between = Between::start(once_at(at, Move::Say(garbage.into())), "delivery.connections = 1");
        between.send(1);
        let log = between.node.quiet();
        assert_eq!(deferrals(&log).first().map(|(reason, _)| *reason), Some("protocol"), "{at} {garbage:?}");
        assert_eq!(between.node.json(&["status"])["delivered"], 1, "{at} {garbage:?}");
        // One that came to its dot had it all; nobody could know more.
        assert_eq!(between.hostile.count(), if at == "dot" { 2 } else { 1 }, "{at} {garbage:?}");
    }
}

#[test]
fn one_reply_too_many_delivers_nothing_that_was_not_taken() {
    for at in STEPS {
        let twice = match at {
            "connected" => "220 mx\r\n220 mx",
            "data" => "354 go\r\n354 go",
            _ => "250 ok\r\n250 ok",
        };
        let between = Between::start(once_at(at, Move::Say(twice.into())), "delivery.connections = 1");
        between.send(3);
        between.others_go_on();
        let log = between.node.quiet();
        for (reason, reply) in deferrals(&log) {
            assert_eq!(reason, "protocol", "{at}: {reply}");
        }
        for number in 0..3 {
            let recipient = super::recipient(number);
            let texts = between.hostile.taken();
            let came = texts.iter().filter(|taken| taken.recipients.contains(&recipient)).count();
            assert_eq!(came, 1, "{at}: {recipient}");
        }
        assert_eq!(between.node.json(&["status"])["delivered"], 4, "{at}");
    }
}

#[test]
fn a_reply_too_few_is_waited_for_and_no_other_is_taken_for_it() {
    for (at, timeout) in [
        ("hello", "greeting"),
        ("mail", "command"),
        ("recipient", "command"),
        ("data", "command"),
        ("dot", "dot"),
    ] {
        let hostile = once_at(at, Move::Mute);
        let between =
            Between::start(hostile, &format!("delivery.connections = 1\ndelivery.timeout.{timeout} = '1s'"));
        between.send(1);
        between.others_go_on();
        let log = between.node.quiet();
        let deferrals = deferrals(&log);
        assert_eq!(deferrals.len(), 1, "{at}: {deferrals:?}");
        assert!(matches!(deferrals[0].0, "timeout" | "protocol"), "{at}: {deferrals:?}");
        assert_eq!(between.node.json(&["status"])["delivered"], 2, "{at}");
        assert_eq!(between.hostile.count(), if at == "dot" { 2 } else { 1 }, "{at}");
    }
}

#[test]
fn a_no_in_the_middle_of_a_text_is_no_delivery() {
    // It says so behind its 354, before the text has come.
    let seen = Tally::default();
    let hostile = Peer::start(move |moment| match moment {
        Moment::Data if seen.before("data") == 0 => Move::Say("354 go\r\n552 5.3.4 too much".into()),
        _ => Move::Go,
    });
    let between = Between::start(hostile, "delivery.connections = 1");
    between.send(1);
    let log = between.node.quiet();
    assert_eq!(deferrals(&log).len(), 1);
    assert_eq!(between.node.json(&["status"])["delivered"], 1);
}
