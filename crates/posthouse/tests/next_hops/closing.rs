//! Hosts that end the session when they like.

use testkit::{Moment, Move, Peer};

use super::{Between, Tally, deferrals, ends, step};

#[test]
fn a_host_that_takes_one_message_a_connection_gets_them_all_without_a_deferral() {
    for goodbye in [Move::Say("421 4.7.0 one at a time".into()), Move::Break] {
        let (seen, farewell) = (Tally::default(), goodbye.clone());
        // A connection begins with its greeting, so the second MAIL behind one is one too many.
        let hostile = Peer::start(move |moment| match moment {
            Moment::Connected => Move::Go,
            Moment::Mail(_) if seen.before("mail") % 2 == 1 => farewell.clone(),
            _ => Move::Go,
        });
        let between = Between::start(hostile, "delivery.connections = 1");
        between.send(8);
        between.others_go_on();
        let log = between.all_delivered_once(8);
        assert_eq!(deferrals(&log), [], "{goodbye:?}");
    }
}

#[test]
fn a_goodbye_between_messages_is_no_attempt() {
    // It says so right behind its reply to the dot: whoever sends the next message meets it.
    let hostile = Peer::start(|moment| match moment {
        Moment::Dot(_) => Move::Say("250 2.0.0 taken\r\n421 4.4.2 closing".into()),
        _ => Move::Go,
    });
    let between = Between::start(hostile, "delivery.connections = 1");
    for _ in 0..3 {
        between.send(1);
        between.node.counts("queued", 0);
    }
    assert_eq!(between.node.json(&["status"])["deferred"], 0);
    assert_eq!((between.hostile.count(), between.hostile.connections()), (3, 3));
}

#[test]
fn a_host_that_always_says_421_keeps_nothing_and_the_sender_hears_of_it() {
    for at in ["connected", "hello", "mail", "recipient", "data", "dot"] {
        let hostile =
            Peer::start(
                move |moment| {
                    if step(moment) == at { Move::Say("421 4.3.2 not today".into()) } else { Move::Go }
                },
            );
        let between = Between::start(hostile, "delivery.expire = '600ms'");
        between.send(1);
        let log = between.node.quiet();
        assert_eq!(ends(&log)["u0@example.net"], ["expired"], "{at}");
        let deferrals = deferrals(&log);
        assert!(
            !deferrals.is_empty() && deferrals.iter().all(|(_, reply)| *reply == "421 4.3.2 not today"),
            "{at}"
        );
        let report = between.willing.wait_for(1).remove(0);
        assert!(String::from_utf8_lossy(&report.text).contains("421 4.3.2 not today"), "{at}");
        assert_eq!(between.willing.count(), 1, "{at}");
    }
}

#[test]
fn a_host_that_breaks_off_behind_every_second_dot_gets_those_again_and_marked() {
    let seen = Tally::default();
    let hostile = Peer::start(move |moment| match moment {
        Moment::Dot(taken)
            if seen.before(&taken.recipients[0]) == 0 && taken.recipients[0].starts_with("u1@") =>
        {
            Move::Break
        }
        _ => Move::Go,
    });
    let between = Between::start(hostile, "delivery.connections = 1");
    between.send(3);
    let log = between.all_delivered_once(3);
    assert_eq!(deferrals(&log), [("lost", "451 4.4.2 the connection was closed (after message)")]);
    let marked: Vec<&str> = log
        .iter()
        .filter(|record| record["possible_duplicate"] == true)
        .map(|record| testkit::node::word(record, "recipient"))
        .collect();
    assert_eq!(marked, ["u1@example.net"]);
    // Only the one that was cut off came again.
    assert_eq!(between.hostile.count(), 4);
}
