//! Conversations of the client: with our own server back to back, and with hosts that misbehave.

mod driver;

use driver::{Host, Policy, Sender, converse};
use smtp::{
    BodyType, Extension, Extensions, Needs, Reply, SmtpUtf8,
    client::{Event, Missing, ProtocolError, RecipientResult, Stage, Tls},
    server::Config,
};

const PIPELINING: &str = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
const UTF8: Needs = Needs { body: BodyType::SevenBit, utf8: SmtpUtf8::Yes };
const EIGHT_BIT: Needs = Needs { body: BodyType::EightBitMime, utf8: SmtpUtf8::No };

fn host(extensions: Extensions, policy: Policy) -> Host {
    Host::new(Config { extensions, ..Config::new("mx.example.org") }, policy)
}

/// A client that was greeted with this reply to EHLO.
fn ready(ehlo: &str) -> Sender {
    let mut sender = Sender::new();
    assert_eq!(sender.give(b"220 mx\r\n").expect("open"), b"EHLO out.example.org\r\n");
    sender.give(ehlo.as_bytes()).expect("open");
    assert!(matches!(sender.events.pop(), Some(Event::Ready(_))));
    sender
}

/// What the client has to write, as text.
fn wrote(sender: &mut Sender) -> String {
    String::from_utf8(std::mem::take(sender.client.output())).expect("commands are text")
}

fn give(sender: &mut Sender, input: &str) -> String {
    String::from_utf8(sender.give(input.as_bytes()).expect("open")).expect("commands are text")
}

/// Code and stage of each recipient's reply.
fn replies(event: &Event) -> Vec<(Stage, u16)> {
    let Event::Done { results, .. } = event else { panic!("{event:?}") };
    let pair = |result: &RecipientResult| match result {
        RecipientResult::Reply { stage, reply } => (*stage, reply.code),
        other => panic!("{other:?}"),
    };
    results.iter().map(pair).collect()
}

#[test]
fn bursts_arrive_whole_with_and_without_pipelining() {
    for (extensions, most_writes) in [
        (Extensions::all(), 23),
        (Extensions::all().without(Extension::Pipelining), 122),
        (Extensions::NONE, 122),
    ] {
        for step in [1, 3, usize::MAX] {
            let policy = Policy { refuse_recipients: Some("no"), ..Policy::default() };
            let (mut sender, mut host) = (Sender::new(), host(extensions, policy));
            for number in 0..20 {
                let recipients = ["a@b", "no@b", "c@d"];
                sender.start(
                    "s@t",
                    &recipients,
                    Needs::default(),
                    format!("N: {number}\r\n\r\n.x").as_bytes(),
                );
            }
            sender.client.quit();
            let writes = converse(&mut sender, &mut host, step);
            assert_eq!(host.log.messages.len(), 20);
            for (number, message) in host.log.messages.iter().enumerate() {
                assert_eq!(message.text, format!("N: {number}\r\n\r\n.x\r\n").as_bytes());
                assert_eq!(message.recipients.len(), 2);
            }
            for event in &sender.events[1..21] {
                assert_eq!(replies(event), [(Stage::Dot, 250), (Stage::Rcpt, 550), (Stage::Dot, 250)]);
            }
            assert!(
                matches!(sender.events.last(), Some(Event::Closed(Some(_)))),
                "{:?}",
                sender.events.last()
            );
            assert_eq!(host.log.events.last().unwrap(), "Quit");
            assert!(writes <= most_writes, "{writes} writes");
        }
    }
}

#[test]
fn the_next_commands_follow_right_behind_the_end_of_a_text() {
    let mut sender = ready(PIPELINING);
    sender.start("s@t", &["a@b"], Needs::default(), b"one\r\n");
    sender.start("s@t", &["c@d"], Needs::default(), b"two\r\n");
    assert_eq!(wrote(&mut sender), "MAIL FROM:<s@t> SIZE=5\r\nRCPT TO:<a@b>\r\nDATA\r\n");
    assert_eq!(
        give(&mut sender, "250 a\r\n250 b\r\n354 c\r\n"),
        "one\r\n.\r\nMAIL FROM:<s@t> SIZE=5\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    );
    assert_eq!(give(&mut sender, "250 one\r\n250 a\r\n250 b\r\n354 c\r\n"), "two\r\n.\r\n");
    assert_eq!(give(&mut sender, "450 two\r\n"), "");
    assert_eq!(replies(&sender.events[0]), [(Stage::Dot, 250)]);
    assert_eq!(replies(&sender.events[1]), [(Stage::Dot, 450)]);
    assert!(sender.client.is_idle());
}

#[test]
fn a_text_that_nobody_gets_is_ended_by_a_lone_dot_and_delivers_nothing() {
    let mut sender = ready(PIPELINING);
    sender.start("s@t", &["a@b", "c@d"], Needs::default(), b"secret\r\n");
    sender.start("s@t", &["e@f"], Needs::default(), b"two\r\n");
    wrote(&mut sender);
    assert_eq!(give(&mut sender, "250 a\r\n550 b\r\n450 c\r\n354 go\r\n"), ".\r\n");
    let next = give(&mut sender, "250 delivered nothing\r\n");
    assert_eq!(replies(&sender.events[0]), [(Stage::Rcpt, 550), (Stage::Rcpt, 450)]);
    assert!(next.starts_with("MAIL "), "{next}");
}

#[test]
fn an_envelope_that_came_to_nothing_is_reset() {
    for (ehlo, steps) in [
        (PIPELINING, &["250 a\r\n550 no\r\n554 none\r\n"][..]),
        (PIPELINING, &["550 no\r\n503 x\r\n503 x\r\n"]),
        (PIPELINING, &["250 a\r\n250 b\r\n451 not now\r\n"]),
        ("250 mx\r\n", &["250 a\r\n", "550 no\r\n"]),
        ("250 mx\r\n", &["550 no\r\n"]),
        ("250 mx\r\n", &["250 a\r\n", "250 b\r\n", "451 not now\r\n"]),
    ] {
        let mut sender = ready(ehlo);
        sender.start("s@t", &["a@b"], Needs::default(), b"one\r\n");
        sender.start("s@t", &["c@d"], Needs::default(), b"two\r\n");
        wrote(&mut sender);
        let last = steps.iter().map(|step| give(&mut sender, step)).last().unwrap();
        assert!(last.starts_with("RSET\r\n"), "{ehlo:?} {steps:?}: {last}");
        assert!(matches!(&sender.events[..], [Event::Done { token: 0, .. }]));
        let rest = give(&mut sender, "250 reset\r\n");
        assert_eq!(rest.starts_with("MAIL "), ehlo != PIPELINING, "{rest}");
    }
}

#[test]
fn what_a_refused_mail_is_followed_by_does_not_count() {
    let mut sender = ready(PIPELINING);
    sender.start("s@t", &["a@b", "c@d"], Needs::default(), b"one\r\n");
    wrote(&mut sender);
    assert_eq!(give(&mut sender, "452 full\r\n250 b\r\n550 c\r\n354 go\r\n"), ".\r\n");
    give(&mut sender, "250 delivered nothing\r\n");
    assert_eq!(replies(&sender.events[0]), [(Stage::Mail, 452), (Stage::Mail, 452)]);
}

#[test]
fn what_the_host_cannot_carry_is_not_offered() {
    let mut sender = ready("250-mx\r\n250 SIZE 10\r\n");
    let result = |sender: &mut Sender| {
        assert_eq!(sender.give(b"").unwrap(), b"");
        let Some(Event::Done { results, .. }) = sender.events.pop() else { panic!() };
        results
    };
    sender.start("s@t", &["a@b"], EIGHT_BIT, b"x");
    assert_eq!(result(&mut sender), [RecipientResult::Unsupported(Missing::EightBitMime)]);
    sender.start("s@t", &["a@b"], UTF8, b"x");
    assert_eq!(result(&mut sender), [RecipientResult::Unsupported(Missing::SmtpUtf8)]);
    sender.start("é@t", &["a@b"], Needs::default(), b"x");
    assert_eq!(result(&mut sender), [RecipientResult::Unsupported(Missing::SmtpUtf8)]);
    sender.start("s@t", &["a@b"], Needs::default(), b"01234567890");
    assert_eq!(result(&mut sender), [RecipientResult::TooBig(10)]);
    // Only the recipient that needs it goes without.
    sender.start("s@t", &["é@b", "a@b", "ö@b"], Needs::default(), b"x");
    assert_eq!(wrote(&mut sender), "MAIL FROM:<s@t> SIZE=1\r\n");
    assert_eq!(give(&mut sender, "250 a\r\n"), "RCPT TO:<a@b>\r\n");
    assert_eq!(give(&mut sender, "250 a\r\n"), "DATA\r\n");
    assert_eq!(give(&mut sender, "354 a\r\n"), "x\r\n.\r\n");
    give(&mut sender, "250 a\r\n");
    let Some(Event::Done { results, .. }) = sender.events.pop() else { panic!() };
    assert_eq!(results[0], RecipientResult::Unsupported(Missing::SmtpUtf8));
    assert!(matches!(&results[1], RecipientResult::Reply { reply, .. } if reply.is_positive()));
    assert_eq!(results[2], results[0]);
}

#[test]
fn what_is_needed_and_offered_is_asked_for() {
    let mut sender = ready(PIPELINING);
    sender.start("s@t", &["a@b"], EIGHT_BIT, b"x");
    assert!(wrote(&mut sender).starts_with("MAIL FROM:<s@t> SIZE=1 BODY=8BITMIME\r\n"));
    let mut sender = ready(PIPELINING);
    sender.start("", &["é@b"], Needs::default(), b"x");
    assert!(wrote(&mut sender).starts_with("MAIL FROM:<> SIZE=1 SMTPUTF8\r\n"));
}

#[test]
fn a_host_without_ehlo_is_greeted_with_helo() {
    let mut sender = Sender::new();
    give(&mut sender, "220 mx\r\n");
    assert_eq!(give(&mut sender, "502 what?\r\n"), "HELO out.example.org\r\n");
    give(&mut sender, "250 mx\r\n");
    sender.start("s@t", &["a@b"], Needs::default(), b"x");
    assert_eq!(wrote(&mut sender), "MAIL FROM:<s@t>\r\n");
}

#[test]
fn a_host_that_closes_gives_its_reply_to_all_that_is_unfinished() {
    for (input, stage) in [
        ("421 bye\r\n", Stage::Mail),
        ("250 a\r\n421 bye\r\n", Stage::Rcpt),
        ("250 a\r\n250 b\r\n250 c\r\n421 bye\r\n", Stage::Data),
        ("250 a\r\n250 b\r\n250 c\r\n354 go\r\n", Stage::Dot),
    ] {
        let mut sender = ready(PIPELINING);
        sender.start("s@t", &["a@b", "c@d"], Needs::default(), b"one\r\n");
        sender.start("s@t", &["e@f"], Needs::default(), b"two\r\n");
        sender.start("s@t", &["g@h"], Needs::default(), b"three\r\n");
        wrote(&mut sender);
        if stage == Stage::Dot {
            give(&mut sender, input);
            assert_eq!(sender.give(b"421 bye\r\n"), None);
        } else {
            assert_eq!(sender.give(input.as_bytes()), None);
        }
        assert_eq!(replies(&sender.events[0]), [(stage, 421); 2]);
        assert_eq!(replies(&sender.events[1]), [(Stage::Mail, 421)]);
        assert_eq!(replies(&sender.events[2]), [(Stage::Mail, 421)]);
        assert_eq!(sender.events[3], Event::Closed(Some(Reply::plain(421, "bye"))));
        assert!(sender.client.unfinished().is_empty());
    }
}

#[test]
fn a_host_that_refuses_us_at_the_door_is_closed() {
    for input in ["554 no\r\n", "450 busy\r\n", "421 busy\r\n"] {
        let mut sender = Sender::new();
        sender.start("s@t", &["a@b"], Needs::default(), b"x");
        assert_eq!(sender.give(input.as_bytes()), None);
        assert_eq!(replies(&sender.events[0]), [(Stage::Hello, input[..3].parse().unwrap())]);
        assert!(matches!(&sender.events[1], Event::Closed(Some(_))));
    }
}

#[test]
fn replies_that_cannot_be_told_apart_break_the_session() {
    for input in [
        "250 a\r\n354 early\r\n",
        "354 early\r\n",
        "250 a\r\n250 b\r\n250 not for DATA\r\n",
        "250 a\r\n250 b\r\n354 go\r\n250 before the text\r\n",
        "250 a\r\n250 b\r\n354 go\r\n2",
        "hello\r\n",
        "250-a\r\n550 b\r\n",
    ] {
        let mut sender = ready(PIPELINING);
        sender.start("s@t", &["a@b"], Needs::default(), b"one\r\n");
        wrote(&mut sender);
        assert_eq!(sender.give(input.as_bytes()), None, "{input:?}");
        assert!(matches!(&sender.events[..], [Event::Broken(_)]), "{input:?}: {:?}", sender.events);
        let [unfinished] = &sender.client.unfinished()[..] else { panic!() };
        assert_eq!((unfinished.token, unfinished.results.as_slice()), (0, &[None][..]));
        assert!(unfinished.stage < Stage::Dot);
    }
    let mut sender = ready(PIPELINING);
    assert_eq!(sender.give(b"250 hi\r\n"), None);
    assert_eq!(sender.events, [Event::Broken(ProtocolError::Unasked(Reply::plain(250, "hi")))]);
    // Without PIPELINING no reply can come before its command was written.
    let mut sender = ready("250 mx\r\n");
    sender.start("s@t", &["a@b"], Needs::default(), b"one\r\n");
    wrote(&mut sender);
    assert_eq!(sender.give(b"250 a\r\n250 b\r\n354 go\r\n250 done\r\n"), None);
    assert!(!sender.events.iter().any(|event| matches!(event, Event::Done { .. })));
}

#[test]
fn a_host_that_gives_up_in_mid_text_is_believed_if_it_refuses() {
    use smtp::client::{Client, Config, Transaction};
    for (reply, closed) in [("451 disk\r\n", true), ("250 what?\r\n", false)] {
        let mut client = Client::new(Config { ehlo_name: "out".into() });
        for mut input in [&b"220 mx\r\n"[..], PIPELINING.as_bytes()] {
            client.advance(&mut input);
        }
        client.start(Transaction {
            token: 7,
            sender: "s@t".to_owned().try_into().unwrap(),
            recipients: vec!["a@b".parse().unwrap()],
            size: 1,
            needs: Needs::default(),
        });
        client.output().clear();
        let mut input = &b"250 a\r\n250 b\r\n354 go\r\n"[..];
        assert_eq!(client.advance(&mut input), Event::SendBody { token: 7 });
        let event = client.advance(&mut reply.as_bytes());
        if closed {
            assert_eq!(replies(&event), [(Stage::Data, 451)]);
            assert!(matches!(client.advance(&mut &b""[..]), Event::Closed(Some(_))));
        } else {
            assert_eq!(event, Event::Broken(ProtocolError::Early));
        }
    }
}

#[test]
fn a_lost_connection_tells_what_may_have_been_delivered() {
    let mut sender = ready(PIPELINING);
    for text in [&b"one\r\n"[..], b"two\r\n", b"three\r\n"] {
        sender.start("s@t", &["a@b", "c@d"], Needs::default(), text);
    }
    wrote(&mut sender);
    give(&mut sender, "250 a\r\n250 b\r\n550 c\r\n354 go\r\n");
    let unfinished = sender.client.unfinished();
    let stages: Vec<_> = unfinished.iter().map(|message| (message.token, message.stage)).collect();
    assert_eq!(stages, [(0, Stage::Dot), (1, Stage::Mail), (2, Stage::Hello)]);
    assert!(unfinished[0].results[0].is_none() && unfinished[0].results[1].is_some());
}

const TLS: &str = "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n";

#[test]
fn under_tls_nothing_counts_that_was_said_before() {
    let mut sender = ready(TLS);
    assert_eq!(sender.client.capabilities().tls(), Tls::Offered);
    sender.client.start_tls();
    assert_eq!(wrote(&mut sender), "STARTTLS\r\n");
    assert_eq!(give(&mut sender, "220 go on\r\n"), "");
    assert_eq!(sender.events.pop(), Some(Event::Secure));
    sender.client.secured();
    assert_eq!(wrote(&mut sender), "EHLO out.example.org\r\n");
    sender.start("a@b", &["c@d"], Needs::default(), b"");
    assert_eq!(wrote(&mut sender), "");
    // Without PIPELINING now, so one command at a time.
    assert_eq!(give(&mut sender, "250 mx\r\n"), "MAIL FROM:<a@b>\r\n");
}

#[test]
fn a_host_that_will_not_have_tls_after_all_is_ready_without() {
    let mut sender = ready(TLS);
    sender.client.start_tls();
    wrote(&mut sender);
    assert_eq!(give(&mut sender, "454 4.7.0 no certificate\r\n"), "");
    let refused = Reply::new(454, (4, 7, 0), "no certificate");
    assert_eq!(sender.events.pop(), Some(Event::NotSecured(refused)));
    assert!(sender.client.is_idle());
}

#[test]
fn what_is_said_in_the_clear_behind_the_yes_to_tls_breaks_the_session() {
    for injected in ["250 mx\r\n", "2", "\r\n"] {
        let mut sender = ready(TLS);
        sender.client.start_tls();
        wrote(&mut sender);
        sender.give(format!("220 go on\r\n{injected}").as_bytes());
        assert_eq!(sender.events.pop(), Some(Event::Broken(ProtocolError::Injected)));
    }
}
