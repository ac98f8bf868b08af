//! Nothing in a message becomes a command or ends the message early, in either direction.

mod driver;

use driver::{Host, Policy, Sender, codes, converse, serve, talk};
use smtp::{
    Extension, Extensions, Needs,
    client::{Event, RecipientResult},
    server::Config,
};

const ENVELOPE: &str = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
const SMUGGLED: &str = "MAIL FROM:<evil@b>\r\nRCPT TO:<victim@d>\r\nDATA\r\nevil\r\n.\r\n";

/// Ends of data that some host somewhere takes for one, and what is wrong with each.
const FALSE_ENDS: [(&str, &str); 22] = [
    ("\n.\n", "LF without CR"),
    ("\n.\r\n", "LF without CR"),
    ("\r\n.\n", "LF without CR"),
    ("\r.\r", "CR without LF"),
    ("\r.\r\n", "CR without LF"),
    ("\r\n.\r", "CR without LF"),
    ("\r\n.\rx", "CR without LF"),
    ("\n.\r", "LF without CR"),
    ("\r.\n", "CR without LF"),
    ("\r\n.\0\r\n", "NUL"),
    ("\r\n\0.\r\n", "NUL"),
    ("\r\0\n.\r\n", "CR without LF"),
    ("\r\n.\r\0\n", "CR without LF"),
    ("\0\r\n.\0\n", "NUL"),
    ("\n\n.\r\n", "LF without CR"),
    ("\n\r.\r\n", "LF without CR"),
    ("\r\r\n.\n\r\n", "CR without LF"),
    ("\r\r.\r\r", "CR without LF"),
    ("\n\r\n.\n\r\n", "LF without CR"),
    ("\r\n.\r\r", "CR without LF"),
    ("\r\n.\n\r\n", "LF without CR"),
    ("\r\n.\r.\r\n", "CR without LF"),
];

fn config() -> Config {
    Config::new("mx.example.org")
}

fn check_refused(wire: &str, why: &str, replies: &[u16]) {
    for step in (1..12).chain([wire.len()]) {
        let log = serve(wire.as_bytes(), step, config(), Policy::default());
        assert!(log.messages.is_empty(), "{wire:?} came through: {log:?}");
        assert!(!log.events.iter().any(|event| event.contains("evil")), "{wire:?} step {step}: {log:?}");
        assert!(
            log.output.contains(&format!("550 5.6.0 message has a {why}")),
            "{wire:?} step {step}: {log:?}"
        );
        assert_eq!(codes(&log.output), replies, "{wire:?} step {step}");
        assert_eq!(log.events.last().map(String::as_str), Some("Quit"));
    }
    split_in_two(wire, |log| assert_eq!(codes(&log.output), replies, "{wire:?}"));
}

/// Gives the wire in two pieces, split at each byte.
fn split_in_two(wire: &str, check: impl Fn(&driver::Log)) {
    for at in 0..wire.len() {
        let mut host = Host::new(config(), Policy::default());
        host.give(&wire.as_bytes()[..at]);
        host.give(&wire.as_bytes()[at..]);
        check(&host.log);
    }
}

#[test]
fn a_false_end_of_data_refuses_the_message_and_hides_no_command() {
    for (end, why) in FALSE_ENDS {
        let wire = format!("{ENVELOPE}DATA\r\nSubject: x\r\n\r\nhi{end}{SMUGGLED}NOOP\r\nQUIT\r\n");
        // The smuggled end of data is the true one.
        check_refused(&wire, why, &[220, 250, 250, 250, 354, 550, 250, 221]);
    }
}

#[test]
fn a_false_end_in_the_header_or_at_the_start_is_refused_too() {
    for (end, why) in FALSE_ENDS {
        for start in ["", "Subject: x", "\r\n"] {
            // At the very start, or behind CRLF, a dot of the variant may rightly begin a line.
            let wire = format!("{ENVELOPE}DATA\r\n{start}a{end}{SMUGGLED}QUIT\r\n");
            check_refused(&wire, why, &[220, 250, 250, 250, 354, 550, 221]);
        }
    }
}

#[test]
fn a_false_end_in_a_chunk_refuses_the_message_and_hides_no_command() {
    for (end, why) in FALSE_ENDS {
        let text = format!("Subject: x\r\n\r\nhi{end}{SMUGGLED}");
        let whole = format!("{ENVELOPE}BDAT {} LAST\r\n{text}NOOP\r\nQUIT\r\n", text.len());
        check_refused(&whole, why, &[220, 250, 250, 250, 550, 250, 221]);
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            let wire =
                format!("{ENVELOPE}BDAT {at}\r\n{head}BDAT {} LAST\r\n{tail}NOOP\r\nQUIT\r\n", tail.len());
            let log = talk(wire.as_bytes());
            assert!(log.messages.is_empty(), "{wire:?} came through");
            assert!(log.output.contains("550 5.6.0 message has a"), "{wire:?}: {}", log.output);
            assert!(log.output.ends_with("250 2.0.0 ok\r\n221 2.0.0 bye\r\n"), "{wire:?}: {}", log.output);
        }
    }
}

#[test]
fn lines_that_look_like_an_end_in_a_chunk_are_text() {
    for text in ["a\r\n.\r\nMAIL FROM:<evil@b>\r\n", ".\r\n", "..\r\n.x\r\n", "\r\n.\r\n\r\n"] {
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            let wire = format!("{ENVELOPE}BDAT {at}\r\n{head}BDAT {} LAST\r\n{tail}QUIT\r\n", tail.len());
            let log = talk(wire.as_bytes());
            assert_eq!(log.messages[0].text, text.as_bytes());
            assert!(log.messages[0].facts.dot_lines);
            split_in_two(&wire, |split| assert_eq!(split, &log));
        }
    }
}

#[test]
fn a_cr_at_the_end_of_a_chunk_waits_for_its_lf() {
    let log = talk(format!("{ENVELOPE}BDAT 3\r\nhi\rBDAT 1 LAST\r\n\nQUIT\r\n").as_bytes());
    assert_eq!(log.messages[0].text, b"hi\r\n");
    let log = talk(format!("{ENVELOPE}BDAT 3\r\nhi\rBDAT 0 LAST\r\nQUIT\r\n").as_bytes());
    assert!(log.messages.is_empty() && log.output.contains("550 5.6.0 message has a CR without LF"));
    let log = talk(format!("{ENVELOPE}BDAT 2\r\nhiBDAT 0 LAST\r\nQUIT\r\n").as_bytes());
    assert_eq!(log.messages[0].text, b"hi\r\n");
}

#[test]
fn a_chunk_without_a_place_is_swallowed_whole() {
    let text = SMUGGLED;
    let bdat = format!("BDAT {} LAST\r\n{text}", text.len());
    for (before, reply) in [("EHLO me\r\n", 503), ("", 503), ("EHLO me\r\nMAIL FROM:<a@b>\r\n", 554)] {
        let wire = format!("{before}{bdat}NOOP\r\nQUIT\r\n");
        let log = talk(wire.as_bytes());
        assert!(codes(&log.output).ends_with(&[reply, 250, 221]), "{before:?}: {}", log.output);
        assert!(!log.events.iter().any(|event| event.contains("evil")));
        split_in_two(&wire, |split| assert_eq!(split, &log));
    }
    let without = Config { extensions: Extensions::all().without(Extension::Chunking), ..config() };
    let log = serve(format!("{ENVELOPE}{bdat}QUIT\r\n").as_bytes(), 7, without, Policy::default());
    assert!(codes(&log.output).ends_with(&[502, 221]), "{}", log.output);
}

#[test]
fn a_chunk_of_unknown_size_ends_the_session() {
    for size in ["", " x", " -1", " 0x10 LAST", " 5 FIRST"] {
        let log = talk(format!("{ENVELOPE}BDAT{size}\r\n{SMUGGLED}").as_bytes());
        assert!(log.output.contains("501 5.5.4"), "{}", log.output);
        assert_eq!(log.events.last().unwrap(), "Close");
        assert!(!log.events.iter().any(|event| event.contains("evil")));
    }
}

#[test]
fn what_is_refused_or_discarded_is_swallowed_to_its_true_end() {
    let refuse = Policy { refuse_body: true, ..Policy::default() };
    let discard = Policy { discard: true, ..Policy::default() };
    let bdat = format!("{ENVELOPE}BDAT {} LAST\r\n{SMUGGLED}NOOP\r\nQUIT\r\n", SMUGGLED.len());
    let data = format!("{ENVELOPE}DATA\r\nhi\n.\r\n{SMUGGLED}NOOP\r\nQUIT\r\n");
    for step in 1..30 {
        for (wire, policy, reply) in [
            (&bdat, refuse, &[550, 250, 221][..]),
            (&bdat, discard, &[550, 250, 221]),
            (&data, discard, &[354, 550, 250, 221]),
        ] {
            let log = serve(wire.as_bytes(), step, config(), policy);
            assert!(codes(&log.output).ends_with(reply), "{policy:?} {wire:?}: {}", log.output);
            assert!(log.messages.is_empty() && !log.events.iter().any(|event| event.contains("evil")));
        }
    }
    // Refused before it came, text after DATA was never announced: it is no text.
    let log = serve(format!("{ENVELOPE}DATA\r\nNOOP\r\n").as_bytes(), 5, config(), refuse);
    assert!(codes(&log.output).ends_with(&[550, 250]));
}

#[test]
fn commands_end_in_crlf_only() {
    let log = talk(b"EHLO me\nMAIL FROM:<a@b>\nNOOP\r\nQUIT\r\n");
    assert_eq!(codes(&log.output), [220, 500, 500, 250, 221]);
    let log = talk(b"NOOP\rQUIT\r\nNOOP\0\r\nQUIT\r\n");
    assert_eq!(codes(&log.output), [220, 500, 500, 221]);
}

#[test]
fn what_the_server_accepts_the_client_hands_on_byte_by_byte() {
    let texts = [
        "",
        "hi",
        "hi\r\n",
        ".",
        ".\r\n",
        "..\r\n",
        "\r\n.\r\n",
        "\r\n..\r\n.\r\n",
        "a: b\r\n\r\n.c\r\n...",
        "\r\n\r\n",
        "QUIT\r\n.\r\nQUIT\r\n",
        "a: b\r\n\r\nMAIL FROM:<evil@b>\r\n",
        "Received: né\r\n\r\né.\r\n.é",
    ];
    for step in [1, 2, 3, 7, usize::MAX] {
        for extensions in
            [Extensions::all(), Extensions::NONE, Extensions::all().without(Extension::Pipelining)]
        {
            let (mut sender, mut host) =
                (Sender::new(), Host::new(Config { extensions, ..config() }, Policy::default()));
            for text in texts {
                let wire = format!("{ENVELOPE}BDAT {} LAST\r\n{text}", text.len());
                let taken = talk(wire.as_bytes()).messages.remove(0);
                sender.start("a@b", &["c@d"], Needs::default(), &taken.text);
            }
            converse(&mut sender, &mut host, step);
            let done = sender.events.iter().filter(|event| {
                matches!(event, Event::Done { results, .. }
                    if matches!(&results[..], [RecipientResult::Reply { reply, .. }] if reply.code == 250))
            });
            assert_eq!(done.count(), texts.len(), "{:?}", sender.events);
            for (text, message) in texts.iter().zip(&host.log.messages) {
                let end = if text.is_empty() || text.ends_with("\r\n") { "" } else { "\r\n" };
                assert_eq!(String::from_utf8_lossy(&message.text), format!("{text}{end}"));
            }
        }
    }
}
