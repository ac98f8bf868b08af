//! As a client of ours.

use testkit::{
    Peer, Session,
    foreign::{Kind, Server},
    node::word,
};

use super::{Needs, arrived, hand_in, messages, setup};

#[test]
fn postfix_sends_to_us_what_it_took() {
    sends_to_us(Kind::Postfix, Needs::SmtpUtf8);
}

#[test]
fn opensmtpd_sends_to_us_what_it_took() {
    sends_to_us(Kind::OpenSmtpd, Needs::Nothing);
}

#[test]
fn exim_sends_to_us_what_it_took() {
    sends_to_us(Kind::Exim, Needs::SmtpUtf8);
}

fn sends_to_us(kind: Kind, can: Needs) {
    let last = Peer::willing();
    // Whoever sends may send to these domains alone, so that some recipients are refused.
    let node = setup()
        .to(&last)
        .flag("--relay-from", "192.0.2.0/24")
        .flag("--relay-to", "example.net")
        .flag("--relay-to", "example.com")
        .start();
    let Some(server) = Server::start(kind, node.smtp()) else { return };
    let mut session = Session::open(server.address());
    let carried: Vec<_> = messages()
        .into_iter()
        .filter(|message| message.needs == Needs::Nothing || can == Needs::SmtpUtf8)
        .collect();
    for message in &carried {
        hand_in(&mut session, message);
    }
    session.envelope(OTHER, &["mixed1@example.net", "refused@elsewhere.example", "mixed2@example.net"]);
    assert_eq!(session.data(super::header("mixed").as_bytes()).code, 250);
    // The sender hears from the server whom we refused.
    let report = testkit::until("a report on the one that was refused", || {
        last.taken().into_iter().find(|taken| taken.sender.is_empty() && taken.recipients == [OTHER])
    });
    let report = String::from_utf8_lossy(&report.text).into_owned();
    assert!(report.contains("refused@elsewhere.example") && report.contains("550"), "{report}");
    testkit::until("the other two", || {
        let taken = last.taken();
        let got =
            |to: &str| taken.iter().any(|taken| taken.recipients.iter().any(|recipient| recipient == to));
        (got("mixed1@example.net") && got("mixed2@example.net")).then_some(())
    });
    let log = node.quiet();
    let ends = log.iter().filter(|record| record["what"] == "delivered").count();
    let accepted = log.iter().filter(|record| record["what"] == "accepted").count();
    assert_eq!(ends, accepted);
    assert!(
        log.iter()
            .filter(|record| record["what"] == "accepted")
            .all(|record| word(record, "source") == "smtp")
    );
    arrived(&carried, &last, 2);
}

/// Who sends to somebody that we refuse.
const OTHER: &str = "b@example.com";
