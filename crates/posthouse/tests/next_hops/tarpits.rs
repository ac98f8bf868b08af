//! Hosts that take their time: a reply that drips, a text that is sipped, a text that is not read at all.

use std::time::{Duration, Instant};

use testkit::{Gate, Manner, Moment, Move, Peer, Session, node::word, peer::KEYWORDS, text::message};

use super::{Between, Tally, deferrals, recipient};

#[test]
fn a_host_that_says_a_byte_a_second_is_given_up_and_nobody_else_waits() {
    let drip = Manner::Dripping(Duration::from_secs(1));
    let tarpit = Peer::behaving(drip, &KEYWORDS, |_| Move::Go);
    let between = Between::start(
        tarpit,
        "delivery.timeout.greeting = '1s'\ndelivery.connections = 3\ndelivery.expire = '3s'",
    );
    let start = Instant::now();
    between.send(10);
    between.others_go_on();
    let log = between.node.quiet();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let tried = log.iter().filter(|record| matches!(word(record, "what"), "deferred" | "expired"));
    for record in tried {
        assert_eq!(
            (word(record, "reason"), word(record, "reply")),
            ("timeout", "451 4.4.2 no reply within 1 s")
        );
    }
    let expired = log.iter().filter(|record| record["what"] == "expired").count();
    assert_eq!((expired, between.hostile.count()), (10, 0));
    // The other message, and a report for each of these.
    assert_eq!(between.willing.count(), 11);
    between.memory_is_bounded();
}

#[test]
fn a_host_that_says_its_replies_byte_by_byte_gets_everything_once() {
    let drip = Manner::Dripping(Duration::from_micros(300));
    for keywords in [&KEYWORDS[..], &["8BITMIME"]] {
        let between =
            Between::start(Peer::behaving(drip, keywords, |_| Move::Go), "delivery.connections = 2");
        between.send(5);
        assert_eq!(deferrals(&between.all_delivered_once(5)), []);
    }
}

#[test]
fn a_host_that_does_not_read_the_text_is_given_up_and_gets_it_at_the_next_try() {
    let (gate, seen) = (Gate::new(), Tally::default());
    let full = gate.clone();
    let hostile = Peer::start(move |moment| {
        if matches!(moment, Moment::Text) && seen.before("text") == 0 {
            full.pass();
            return Move::Break;
        }
        Move::Go
    });
    let between = Between::start(hostile, "delivery.timeout.data = '1s'");
    // More than the system's buffers hold.
    let text = message("large", 24 << 20);
    let mut session = Session::open(between.node.smtp());
    session.envelope(super::SENDER, &[&recipient(0)]);
    assert_eq!(session.data(&text).code, 250);
    gate.reached(1);
    between.others_go_on();
    let log = between.node.records_of(&recipient(0), 2);
    assert_eq!(deferrals(&log), [("timeout", "451 4.4.2 nothing was taken within 1 s (after data)")]);
    gate.open();
    between.all_delivered_once(1);
}

#[test]
fn a_host_that_is_in_time_with_each_reply_and_not_with_all_is_left() {
    let drip = Manner::Dripping(Duration::from_millis(50));
    let tarpit = Peer::behaving(drip, &["8BITMIME"], |_| Move::Go);
    let between = Between::start(
        tarpit,
        "delivery.timeout.burst = '1s'\ndelivery.connections = 1\ndelivery.expire = '3s'",
    );
    between.send(1);
    between.others_go_on();
    let log = between.node.quiet();
    let tried = log.iter().filter(|record| matches!(word(record, "what"), "deferred" | "expired"));
    let tried: Vec<_> = tried.map(|record| (word(record, "reason"), word(record, "reply"))).collect();
    let late = |(reason, reply): &(&str, &str)| {
        *reason == "timeout" && reply.starts_with("451 4.4.2 not through within 1 s")
    };
    assert!(!tried.is_empty() && tried.iter().all(late), "{tried:?}");
    assert_eq!(between.hostile.count(), 0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the host takes its time")]
fn a_message_whose_end_is_sent_has_all_the_time_of_its_reply_whatever_the_burst_has_taken() {
    let hostile = Peer::start(|moment| {
        if matches!(moment, Moment::Dot(_)) {
            // Longer than the burst may take.
            std::thread::sleep(Duration::from_millis(1200));
        }
        Move::Go
    });
    let between = Between::start(hostile, "delivery.timeout.burst = '1s'\ndelivery.connections = 1");
    between.send(3);
    assert_eq!(deferrals(&between.all_delivered_once(3)), []);
    assert!(between.hostile.connections() > 1, "what was left went another time");
}
