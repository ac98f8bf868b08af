//! What becomes of each recipient: delivered, tried again by the plan, failed.

use std::{str::FromStr, time::Duration};

use posthouse::api::Moment as Time;
use serde_json::Value;
use testkit::{Moment, Move, Peer, Setup, node::word};

use super::{SHORT, Tally, send, send_from, setup, words};

#[test]
fn recipients_of_one_transaction_have_each_their_own_fate() {
    let seen = Tally::default();
    let peer = Peer::start(move |moment| match moment {
        Moment::Recipient(to) if to.starts_with("no") => Move::Say("550 5.1.1 who?".into()),
        Moment::Recipient(to) if to.starts_with("later") && seen.before(to) == 0 => {
            Move::Say("450 4.2.0 busy".into())
        }
        _ => Move::Go,
    });
    let node = setup(&peer).start();
    send(&node, &["yes@example.net", "no@example.net", "later@example.net", "too@example.net"], SHORT);
    let log = node.quiet();
    let of = |recipient: &str| -> Vec<Value> {
        log.iter().filter(|record| record["recipient"] == recipient).cloned().collect()
    };
    assert_eq!(words(&of("yes@example.net")), ["accepted", "delivered"]);
    assert_eq!(words(&of("too@example.net")), ["accepted", "delivered"]);
    assert_eq!(words(&of("no@example.net")), ["accepted", "failed"]);
    let later = of("later@example.net");
    assert_eq!(words(&later), ["accepted", "deferred", "delivered"]);
    assert_eq!((&later[1]["reply"], &later[1]["reason"]), (&"450 4.2.0 busy".into(), &"rcpt".into()));
    assert_eq!((later[1]["attempt"].as_u64(), later[2]["attempt"].as_u64()), (Some(1), Some(2)));
    let taken: Vec<Vec<String>> = peer
        .taken()
        .into_iter()
        .filter(|taken| !taken.sender.is_empty())
        .map(|taken| taken.recipients)
        .collect();
    assert_eq!(taken, [vec!["yes@example.net", "too@example.net"], vec!["later@example.net"]]);
}

#[test]
fn a_deferred_recipient_is_tried_again_by_the_plan() {
    let seen = Tally::default();
    let peer = Peer::start(move |moment| match moment {
        Moment::Dot(_) if seen.before("dot") < 3 => Move::Say("451 4.3.0 not now".into()),
        _ => Move::Go,
    });
    let node = Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(&peer).flag("--retry", "200ms,600ms").start();
    send(&node, &["u@example.net"], SHORT);
    let records = node.records_of("u@example.net", 5);
    assert_eq!(words(&records), ["accepted", "deferred", "deferred", "deferred", "delivered"]);
    for (number, plan) in [200, 600, 600].into_iter().enumerate() {
        let (this, next) = (&records[1 + number], &records[2 + number]);
        let wait = time(this, "next_attempt").since(time(this, "time"));
        let plan = Duration::from_millis(plan);
        assert!(wait > plan.mul_f64(0.85) && wait < plan.mul_f64(1.15), "{wait:?} instead of {plan:?}");
        assert!(time(next, "time") >= time(this, "next_attempt"), "tried before its time");
        assert_eq!((&this["reason"], &this["reply"]), (&"message".into(), &"451 4.3.0 not now".into()));
    }
    assert_eq!(node.json(&["status"])["deferred"], 3);
}

fn time(record: &Value, field: &str) -> base::Timestamp {
    Time::from_str(word(record, field)).expect("it is a time").0
}

#[test]
fn a_no_at_each_step_is_final_and_a_not_now_is_not() {
    for step in ["mail", "rcpt", "data", "message"] {
        let (seen, at) = (Tally::default(), step);
        let peer = Peer::start(move |moment| {
            let (now, sender) = match moment {
                Moment::Mail(line) => ("mail", *line),
                Moment::Recipient(_) => ("rcpt", ""),
                Moment::Data => ("data", ""),
                Moment::Dot(taken) => ("message", taken.mail.as_str()),
                _ => return Move::Go,
            };
            // The report of a failure comes from nobody, and is taken.
            if now != at || sender.contains("<>") || seen.before(now) > 1 {
                return Move::Go;
            }
            Move::Say(if seen.before("no") == 0 { "452 4.3.1 not now".into() } else { "554 5.7.0 no".into() })
        });
        let node = setup(&peer).start();
        send(&node, &["u@example.net"], SHORT);
        let records = node.records_of("u@example.net", 3);
        assert_eq!(words(&records), ["accepted", "deferred", "failed"], "{step}");
        for (record, reply) in records[1..].iter().zip(["452 4.3.1 not now", "554 5.7.0 no"]) {
            assert_eq!((&record["reason"], &record["reply"]), (&step.into(), &reply.into()));
        }
    }
}

#[test]
fn the_null_sender_is_a_sender_like_any_other() {
    let peer = Peer::willing();
    let node = setup(&peer).start();
    send_from(&node, "", &["u@example.net"], SHORT);
    assert!(peer.wait_for(1)[0].mail.starts_with("MAIL FROM:<> "));
    assert_eq!(words(&node.quiet()), ["accepted", "delivered"]);
}

#[test]
fn more_than_a_hundred_recipients_of_a_domain_all_get_the_message_once() {
    let peer = Peer::willing();
    let node = setup(&peer).start();
    let recipients: Vec<String> = (0..250).map(|number| format!("u{number}@example.net")).collect();
    send(&node, &recipients.iter().map(String::as_str).collect::<Vec<_>>(), SHORT);
    node.counts("delivered", 250);
    let taken = peer.taken();
    let mut got: Vec<String> = taken.iter().flat_map(|taken| taken.recipients.clone()).collect();
    got.sort();
    let mut expected = recipients;
    expected.sort();
    assert_eq!((got, taken.len()), (expected, 3));
}
