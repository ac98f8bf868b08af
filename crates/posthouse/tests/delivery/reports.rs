//! Reports to senders, as Python's own parser reads them.

use serde_json::Value;
use testkit::{Moment, Move, Peer, Taken, tools};

use super::{SHORT, send, send_from, setup, words};

/// Prints what a report says: its kind, its parts, and the fields of each recipient.
const READ_REPORT: &str = "
import email, email.policy, json, sys
message = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
text, status, original = message.iter_parts()
fields = lambda part: {name.lower(): value for name, value in part.items()}
blocks = [fields(block) for block in status.get_payload()]
print(json.dumps({
    'kind': message.get_content_type(), 'report': message.get_param('report-type'),
    'from': message['from'], 'to': message['to'], 'auto': message['auto-submitted'],
    'id': message['message-id'], 'date': bool(message['date'].datetime),
    'parts': [part.get_content_type() for part in message.iter_parts()],
    'text': text.get_content(), 'message': blocks[0], 'recipients': blocks[1:],
    'original': original.get_content(), 'defects': len(message.defects)}))";

fn read(report: &Taken) -> Value {
    assert!(report.mail.starts_with("MAIL FROM:<>"), "{}", report.mail);
    serde_json::from_str(&tools::python(READ_REPORT, &[], &report.text)).expect("the script prints JSON")
}

/// A peer that refuses recipients whose names begin with `no`, and defers those with `never`.
fn picky() -> Peer {
    Peer::start(|moment| match moment {
        Moment::Recipient(to) if to.starts_with("no") => Move::Say("550 5.1.1 no such user <here>".into()),
        Moment::Recipient(to) if to.starts_with("never") => Move::Say("450 4.2.0 still busy".into()),
        _ => Move::Go,
    })
}

#[test]
fn a_failure_is_reported_to_the_sender_in_the_form_of_rfc_3464() {
    let peer = picky();
    let node = setup(&peer).start();
    let recipients = ["no1@example.net", "yes@example.net", "no2@example.net"];
    send(&node, &recipients, b"Subject: the original\r\nX-Own: 1\r\n\r\nsecret text\r\n");
    let log = node.quiet();
    let taken = peer.taken();
    let report = taken.iter().find(|taken| taken.sender.is_empty()).expect("there is a report");
    assert_eq!((report.recipients.as_slice(), taken.len()), (&["a@example.com".to_owned()][..], 2));
    let read = read(report);
    assert_eq!((&read["kind"], &read["report"]), (&"multipart/report".into(), &"delivery-status".into()));
    assert_eq!(
        read["parts"],
        serde_json::json!(["text/plain", "message/delivery-status", "text/rfc822-headers"])
    );
    assert_eq!((&read["to"], &read["auto"]), (&"a@example.com".into(), &"auto-replied".into()));
    assert_eq!((&read["date"], &read["defects"]), (&true.into(), &0.into()));
    assert!(read["from"].as_str().unwrap().contains("<MAILER-DAEMON@mx1.example.org>"), "{read}");
    assert_eq!(read["message"]["reporting-mta"], "dns; mx1.example.org");
    let blocks = read["recipients"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    for (block, recipient) in blocks.iter().zip(["no1@example.net", "no2@example.net"]) {
        assert_eq!(block["final-recipient"], format!("rfc822; {recipient}"));
        assert_eq!((&block["action"], &block["status"]), (&"failed".into(), &"5.1.1".into()));
        assert_eq!(block["diagnostic-code"], "smtp; 550 5.1.1 no such user <here>");
        assert!(read["text"].as_str().unwrap().contains(recipient), "{read}");
    }
    let original = read["original"].as_str().unwrap();
    assert!(original.contains("Subject: the original") && original.contains("X-Own: 1"), "{original}");
    assert!(!String::from_utf8_lossy(&report.text).contains("secret text"));
    let of_report: Vec<&Value> = log.iter().filter(|record| record["recipient"] == "a@example.com").collect();
    assert_eq!((&of_report[0]["source"], of_report.len()), (&"dsn".into(), 2));
}

#[test]
fn a_message_from_the_null_sender_is_never_reported() {
    let peer = picky();
    let node = setup(&peer).start();
    send_from(&node, "", &["no@example.net"], SHORT);
    assert_eq!(words(&node.quiet()), ["accepted", "failed"]);
    assert_eq!(peer.count(), 0);
}

#[test]
fn a_report_that_is_refused_itself_ends_there() {
    let peer = picky();
    let node = setup(&peer).start();
    send_from(&node, "nobody@example.com", &["no@example.net"], SHORT);
    let log = node.quiet();
    assert_eq!(words(&log), ["accepted", "failed", "accepted", "failed"]);
    assert_eq!((&log[3]["recipient"], &log[3]["sender"]), (&"nobody@example.com".into(), &"".into()));
    assert_eq!(peer.count(), 0);
}

#[test]
fn a_message_that_grows_too_old_expires_and_is_reported_with_the_last_reply() {
    let peer = picky();
    let node = setup(&peer).flag("--expire", "700ms").start();
    send(&node, &["never@example.net", "yes@example.net"], SHORT);
    let log = node.quiet();
    let mut of: Vec<&str> = log
        .iter()
        .filter(|record| record["recipient"] == "never@example.net")
        .map(|record| record["what"].as_str().unwrap())
        .collect();
    assert_eq!((of.remove(0), of.pop()), ("accepted", Some("expired")));
    assert!(!of.is_empty() && of.iter().all(|what| *what == "deferred"), "{of:?}");
    let report = peer.taken().into_iter().find(|taken| taken.sender.is_empty()).expect("there is a report");
    let read = read(&report);
    assert_eq!(read["recipients"].as_array().unwrap().len(), 1);
    let block = &read["recipients"][0];
    assert_eq!((&block["action"], &block["status"]), (&"failed".into(), &"5.2.0".into()));
    assert_eq!(block["diagnostic-code"], "smtp; 450 4.2.0 still busy");
    assert!(read["text"].as_str().unwrap().contains("not be delivered in time"), "{read}");
    assert_eq!(node.json(&["status"])["expired"], 1);
}

#[test]
fn a_report_on_hostile_words_has_no_field_or_part_of_theirs() {
    let peer = Peer::start(|moment| match moment {
        Moment::Recipient(to) if to.starts_with("no") => {
            Move::Say("550-5.1.1 no\r\n550-Action: delivered\r\n550-\r\n550 --report-0".into())
        }
        _ => Move::Go,
    });
    let node = setup(&peer).start();
    send(&node, &["no@example.net"], b"Subject: x\r\n--report-0: y\r\nX-A: \x1b[31m\r\n\r\nhello\r\n");
    let report = peer.wait_for(1).remove(0);
    let read = read(&report);
    assert_eq!((&read["recipients"][0]["action"], &read["defects"]), (&"failed".into(), &0.into()));
    assert_eq!(read["parts"].as_array().unwrap().len(), 3);
    assert!(!report.text.contains(&0x1b));
}
