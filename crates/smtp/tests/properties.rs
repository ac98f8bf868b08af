//! Random and mutated conversations: nothing panics, nothing depends on how bytes were split, and
//! what is said stays within the protocol.

mod driver;

use driver::{Host, Policy, Sender, codes, converse, serve};
use proptest::{collection::vec, prelude::*};
use smtp::{
    BodyType, Extensions, Needs, ReplyParser, SmtpUtf8,
    client::{Event, RecipientResult, Stage},
    server::{Config, Limits},
};

/// Lines and fragments that take a session to all of its corners.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        8 => prop::sample::select(vec![
            "EHLO me\r\n", "HELO me\r\n", "MAIL FROM:<a@b>\r\n", "MAIL FROM:<> SIZE=9 SMTPUTF8\r\n", "RCPT TO:<c@d>\r\n",
            "RCPT TO:<no@d>\r\n", "DATA\r\n", "BDAT 5\r\n", "BDAT 9 LAST\r\n", "BDAT 0 LAST\r\n", "RSET\r\n", "NOOP\r\n",
            "QUIT\r\n", "VRFY x\r\n", "BDAT x\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        8 => Just(b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n".to_vec()),
        8 => prop::sample::select(vec![
            ".\r\n", "\r\n.\r\n", "..\r\n", ".", "\r", "\n", "\0", "\r\n", "Received: x\r\n", "text\r\n", "\n.\n", "é", "\u{ff}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(fragment, 0..24).prop_map(|fragments| fragments.concat())
}

fn config() -> Config {
    let limits =
        Limits { errors: 6, idle_commands: 8, command_line: base::ByteSize(64), ..Limits::default() };
    Config { limits, ..Config::new("mx.example.org") }
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>()).prop_map(|(refuse_body, discard)| Policy {
        refuse_recipients: Some("no"),
        refuse_body,
        discard,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_server_says_the_same_however_its_input_is_split(script in script(), policy in policy(), step in 1..40_usize) {
        let whole = serve(&script, usize::MAX, config(), policy);
        let split = serve(&script, step, config(), policy);
        if policy.discard {
            // Whether the driver or the session gives a message up first depends on the pieces.
            prop_assert_eq!(codes(&whole.output), codes(&split.output));
        } else {
            prop_assert_eq!(&whole, &split);
        }
        let mut parser = ReplyParser::new();
        let mut output = whole.output.as_bytes();
        while parser.advance(&mut output).expect("a server says replies").is_some() {}
        // Nothing of a reply is left open.
        prop_assert_eq!(parser.advance(&mut &b"299 end\r\n"[..]), Ok(Some(smtp::Reply::plain(299, "end"))));
    }

    #[test]
    fn a_server_accepts_no_text_that_could_smuggle(script in script()) {
        for message in serve(&script, usize::MAX, config(), Policy::default()).messages {
            let text = &message.text;
            prop_assert!(text.is_empty() || text.ends_with(b"\r\n"));
            prop_assert!(!text.contains(&0));
            for (at, byte) in text.iter().enumerate() {
                prop_assert!(*byte != b'\n' || at > 0 && text[at - 1] == b'\r');
                prop_assert!(*byte != b'\r' || text.get(at + 1) == Some(&b'\n'));
            }
            let dots = text.starts_with(b".") || text.windows(2).any(|pair| pair == b"\n.");
            prop_assert_eq!(message.facts.dot_lines, dots);
            let header = usize::try_from(message.facts.header_len).unwrap();
            prop_assert_eq!(message.facts.header_eight_bit, !text[..header].is_ascii());
            prop_assert_eq!(message.facts.eight_bit, !text[header..].is_ascii());
            let rest = &text[header..];
            prop_assert!(rest.is_empty() || rest.starts_with(b"\r\n"));
        }
    }

    #[test]
    fn what_a_client_sends_a_server_of_any_kind_takes_as_it_was(
        texts in vec(vec(prop::sample::select(vec![".", "\r\n", "a", "..", "é"]), 0..8), 1..6),
        extensions in vec(prop::sample::select(&smtp::Extension::ALL[..]), 0..6),
        steps in (1..30_usize, any::<bool>()),
    ) {
        let step = if steps.1 { usize::MAX } else { steps.0 };
        let extensions: Extensions = extensions.into_iter().collect();
        let (mut sender, mut host) = (Sender::new(), Host::new(Config { extensions, ..config() }, Policy::default()));
        for text in &texts {
            sender.start("s@t", &["a@b"], Needs::default(), text.concat().as_bytes());
        }
        sender.client.quit();
        converse(&mut sender, &mut host, step);
        prop_assert_eq!(host.log.messages.len(), texts.len());
        for (text, message) in texts.iter().zip(&host.log.messages) {
            let mut text = text.concat();
            if !text.is_empty() && !text.ends_with("\r\n") {
                text += "\r\n";
            }
            prop_assert_eq!(&text, str::from_utf8(&message.text).unwrap());
        }
        prop_assert!(matches!(sender.events.last(), Some(Event::Closed(_))));
    }

    #[test]
    fn a_client_survives_any_host_and_tells_of_each_message_once(
        replies in vec(prop_oneof![
            12 => prop::sample::select(vec![
                "220 mx\r\n", "250 ok\r\n", "250-mx\r\n250 PIPELINING\r\n", "354 go\r\n", "450 4.0.0 x\r\n", "550 5.1.1 x\r\n",
                "421 bye\r\n", "250-", "\r\n",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..9),
        ], 0..40),
        well_begun in any::<bool>(),
        needs in (any::<bool>(), any::<bool>()),
    ) {
        let mut sender = Sender::new();
        let begin: &[&[u8]] = if well_begun { &[b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n"] } else { &[] };
        let needs = Needs {
            body: if needs.0 { BodyType::EightBitMime } else { BodyType::SevenBit },
            utf8: if needs.1 { SmtpUtf8::Yes } else { SmtpUtf8::No },
        };
        for number in 0..4 {
            let needs = if number == 1 { needs } else { Needs::default() };
            sender.start("s@t", &["a@b", "é@d"], needs, b"text\r\n");
        }
        let mut sent = String::new();
        for input in begin.iter().copied().chain(replies.iter().map(Vec::as_slice)) {
            match sender.give(input) {
                Some(out) => sent += str::from_utf8(&out).unwrap(),
                None => break,
            }
            sent += str::from_utf8(&std::mem::take(sender.client.output())).unwrap();
        }
        let unfinished = sender.client.unfinished();
        let mut tokens: Vec<u32> = unfinished.iter().map(|message| message.token).collect();
        for event in &sender.events {
            if let Event::Done { token, results } = event {
                tokens.push(*token);
                prop_assert_eq!(results.len(), 2);
                for result in results {
                    if let RecipientResult::Reply { stage, reply } = result {
                        prop_assert!(!reply.is_positive() || *stage == Stage::Dot, "{:?}", result);
                    }
                }
            }
        }
        tokens.sort_unstable();
        prop_assert_eq!(tokens, [0, 1, 2, 3]);
        let delivered = sender.events.iter().filter(|event| matches!(event, Event::Done { results, .. }
            if results.iter().any(|result| matches!(result, RecipientResult::Reply { reply, .. } if reply.is_positive()))));
        prop_assert!(delivered.count() <= sent.matches("text\r\n.\r\n").count());
    }
}
