//! Reports and trace fields about hosts and clients that say anything.

use base::{MessageId, Timestamp};
use smtp::{
    Address, Reply, SmtpUtf8,
    dsn::{Action, Recipient, Report, Word},
    received::Received,
    server::{Dialect, Hello},
};
use testkit::fuzz::Fuzz;

const WORDS: [&str; 22] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "--report-",
    "--",
    "Action: delivered\r\n",
    "Status: 2.0.0\r\n",
    "\u{e9}",
    "\u{202e}",
    ";",
    "\t",
    " ",
    "Subject: x\r\n",
    "X-A: ",
    "\r\n\r\n",
    "?",
    "\u{1b}[31m",
    "=?utf-8?q?x?=",
    ":",
    "\u{2028}",
    "Content-Type: text/html\r\n",
];

/// What parts an input into the words of several.
const CUT: u8 = 0xfe;

fn id() -> MessageId {
    MessageId::from_bytes([7; 16])
}

fn now() -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000)
}

/// The fields that a report may say of the message and of recipients (RFC 3464, section 2).
const FIELDS: [&str; 9] = [
    "Reporting-MTA",
    "Arrival-Date",
    "Final-Recipient",
    "Action",
    "Status",
    "Remote-MTA",
    "Diagnostic-Code",
    "Last-Attempt-Date",
    "Will-Retry-Until",
];

#[test]
fn whatever_was_said_a_report_has_its_three_parts_and_no_field_of_anybody_else() {
    let seeds = vec![
        b"\x01no host took it\xfemx.example\xfe550 no such user\xfeSubject: x\r\nFrom: a\r\n".to_vec(),
        b"\x02\xfe\xfe\xfe".to_vec(),
    ];
    Fuzz::new(seeds, &WORDS, 1500).run(|input| {
        let [mode, said @ ..] = input else { return (0, 0, 0) };
        let mut words = said.split(|byte| *byte == CUT);
        let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let (reason, remote, reply, header) = (word(), word(), word(), word());
        let to: Address =
            if mode & 1 != 0 { "a@example.com" } else { "j\u{f6}rg@example.com" }.parse().expect("it is one");
        let recipient: Address = if mode & 2 != 0 { "b@example.net" } else { "\"a\\\"b\"@b\u{fc}.example" }
            .parse()
            .expect("it is one");
        let reply = Reply::new(550, (5, 1, 1), reply);
        let recipients = [Recipient {
            address: &recipient,
            action: if mode & 4 != 0 { Action::Failed } else { Action::Delayed { until: now() } },
            status: (5, 1, 1),
            reason: &reason,
            remote: (mode & 8 != 0).then_some(&remote),
            word: if mode & 16 != 0 { Word::Remote(&reply) } else { Word::Ours(&reply.text) },
            last_attempt: Some(now()),
        }];
        let report = Report {
            id: id(),
            hostname: "mx.example.org",
            now: now(),
            to: &to,
            arrived: now(),
            recipients: &recipients,
            header: header.as_bytes(),
        };
        let message = report.build();
        sound(&message.text, &to);
        one_field(&remote);
        (
            message.text.split(|byte| *byte == b'\n').count().min(99),
            usize::from(message.text.is_ascii()),
            usize::from(*mode),
        )
    });
}

fn sound(text: &[u8], to: &Address) {
    let text = str::from_utf8(text).expect("reports are text");
    assert!(text.is_ascii() || !to.is_ascii(), "{text}");
    assert!(
        text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n', '\0', '\u{1b}']),
        "{text:?}"
    );
    assert!(text.lines().all(|line| line.len() <= 998), "{text:?}");
    let boundary = format!("--report-{}", id());
    let places: Vec<usize> =
        text.lines().enumerate().filter(|(_, line)| line.starts_with(&boundary)).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 4, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let status = &lines[places[1] + 1..places[2]];
    let body = status.iter().position(|line| line.is_empty()).expect("a part has a header");
    for line in status[body..].iter().filter(|line| !line.is_empty() && !line.starts_with([' ', '\t'])) {
        let name = line.split(':').next().unwrap_or_default();
        assert!(FIELDS.contains(&name), "{line:?} in {text}");
    }
}

/// The trace field about a client of this name is one field of three lines.
fn one_field(name: &str) {
    let hello = Hello { name: name.into(), dialect: Dialect::Esmtp };
    let client = [192, 0, 2, 1].into();
    let received = Received {
        hello: &hello,
        client,
        by: "mx.example.org",
        utf8: SmtpUtf8::No,
        id: id(),
        only_recipient: None,
        at: now(),
    };
    let mut out = Vec::new();
    received.write(&mut out);
    let text = String::from_utf8(out).expect("a field is text");
    assert!(
        text.is_ascii() && text.starts_with("Received: from ") && text.matches("\r\n").count() == 3,
        "{text:?}"
    );
    assert!(text.split_terminator("\r\n").skip(1).all(|line| line.starts_with('\t')), "{text:?}");
    assert!(!text.replace("\r\n", "").contains(char::is_control) || text.contains('\t'), "{text:?}");
}
