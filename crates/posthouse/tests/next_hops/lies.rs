//! Hosts that lie about PIPELINING.

use testkit::{Manner, Moment, Move, Peer, Session, peer::KEYWORDS};

use super::{Between, SHORT, deferrals};

#[test]
fn a_host_that_offers_pipelining_and_reads_one_command_at_a_time_gets_everything_once() {
    let hostile = Peer::behaving(Manner::OneByOne, &KEYWORDS, |_| Move::Go);
    let between = Between::start(hostile, "delivery.connections = 1");
    between.send(6);
    assert_eq!(deferrals(&between.all_delivered_once(6)), []);
}

#[test]
fn a_host_that_offers_pipelining_and_loses_what_came_early_gets_its_mail_one_command_at_a_time() {
    let hostile = Peer::behaving(Manner::Forgetful, &KEYWORDS, |_| Move::Go);
    let between = Between::start(hostile, "delivery.connections = 1\ndelivery.timeout.command = '1s'");
    between.send(3);
    between.others_go_on();
    let log = between.all_delivered_once(3);
    let deferrals = deferrals(&log);
    assert!(!deferrals.is_empty(), "it was offered, so it was used");
    for deferral in deferrals {
        assert_eq!(deferral, ("timeout", "451 4.4.2 no reply within 1 s (after rcpt)"));
    }
    between.node.said("silent when commands came together");
}

#[test]
fn a_host_without_pipelining_gets_one_command_at_a_time_however_much_waits() {
    let hostile = Peer::behaving(Manner::Forgetful, &["8BITMIME"], |moment| match moment {
        Moment::Recipient(to) if to.starts_with("no") => Move::Say("550 5.1.1 who?".into()),
        _ => Move::Go,
    });
    let between = Between::start(hostile, "delivery.connections = 2");
    between.send(5);
    let mut session = Session::open(between.node.smtp());
    session.envelope("", &["no1@example.net", "no2@example.net"]);
    assert_eq!(session.data(SHORT).code, 250);
    let log = between.all_delivered_once(5);
    assert_eq!(log.iter().filter(|record| record["what"] == "failed").count(), 2);
}
