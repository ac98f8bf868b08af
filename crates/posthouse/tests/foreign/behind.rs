//! As our next hop.

use testkit::{
    Peer, Session,
    foreign::{Kind, Server},
    node::{is_end, word},
};

use super::{MANY, Needs, SENDER, arrived, hand_in, messages, setup};

#[test]
fn postfix_takes_from_us_what_we_took() {
    takes_from_us(Kind::Postfix, Needs::SmtpUtf8);
}

#[test]
fn opensmtpd_takes_from_us_what_we_took() {
    takes_from_us(Kind::OpenSmtpd, Needs::Nothing);
}

#[test]
fn exim_takes_from_us_what_we_took() {
    takes_from_us(Kind::Exim, Needs::SmtpUtf8);
}

fn takes_from_us(kind: Kind, can: Needs) {
    let last = Peer::willing();
    let Some(server) = Server::start(kind, last.address()) else { return };
    let reports = Peer::willing();
    let node = setup()
        .flag("--smarthost", server.address().to_string())
        .flag("--route", format!("example.com={}", reports.address()))
        .start();
    let mut session = Session::open(node.smtp());
    let (carried, failing): (Vec<_>, Vec<_>) =
        messages().into_iter().partition(|message| message.needs == Needs::Nothing || can == Needs::SmtpUtf8);
    for message in carried.iter().chain(&failing) {
        hand_in(&mut session, message);
    }
    // Some of many are refused, one by one.
    let mixed: Vec<String> = (0..MANY)
        .map(|number| format!("{}{number}@example.org", if number % 3 == 0 { "no" } else { "yes" }))
        .collect();
    session.envelope("", &mixed.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        session.data(b"From: <a@example.com>\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\n\r\nmixed\r\n").code,
        250
    );
    let log = node.quiet();
    for record in log.iter().filter(|record| is_end(record)) {
        let recipient = word(record, "recipient");
        let expected = match () {
            () if recipient.starts_with("no")
                || failing.iter().any(|message| message.recipients.iter().any(|to| to == recipient)) =>
            {
                "failed"
            }
            () => "delivered",
        };
        assert_eq!(word(record, "what"), expected, "{record}");
    }
    let failed = log.iter().filter(|record| record["what"] == "failed").count();
    assert_eq!(failed, MANY.div_ceil(3) + failing.len());
    arrived(&carried, &last, 2);
    let count = || {
        last.taken()
            .iter()
            .filter(|taken| taken.sender != SENDER)
            .map(|taken| taken.recipients.len())
            .sum::<usize>()
    };
    testkit::until("the recipients that were not refused", || {
        (count() == MANY - MANY.div_ceil(3)).then_some(())
    });
}
