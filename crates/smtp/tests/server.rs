//! Conversations with the server: order, parameters, limits.

mod driver;

use std::time::Duration;

use base::Timestamp;
use driver::{Host, Log, Policy, codes, serve, talk};
use smtp::{
    BodyType, Extensions, Reply, Server, SmtpUtf8,
    server::{Config, Dialect, Event, Limits, Release},
};

fn limited(limits: Limits) -> Config {
    Config { limits, ..Config::new("mx.example.org") }
}

fn last(log: &Log) -> &str {
    log.output.trim_end().lines().last().expect("a greeting")
}

/// The reply to `line` after EHLO.
fn after_hello(lines: &str) -> String {
    last(&talk(format!("EHLO me\r\n{lines}\r\n").as_bytes())).to_owned()
}

#[test]
fn ehlo_offers_what_is_configured() {
    let log = talk(b"EHLO me\r\n");
    assert_eq!(
        log.output,
        "220 mx.example.org ESMTP Posthouse\r\n250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n\
         250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250 MT-PRIORITY\r\n"
    );
    let none = Config { extensions: Extensions::NONE, ..Config::new("mx.example.org") };
    let log = serve(b"EHLO me\r\nMAIL FROM:<a@b> SIZE=1\r\n", 99, none, Policy::default());
    assert!(
        log.output.ends_with("250 mx.example.org\r\n555 5.5.4 MAIL parameter SIZE is not known here\r\n")
    );
    assert!(talk(b"HELO me\r\n").output.ends_with("\r\n250 mx.example.org\r\n"));
}

#[test]
fn a_pipelined_message_is_taken_with_what_was_said_of_it() {
    let log = talk(
        "EHLO me\r\nMAIL FROM:<jörg@b> SIZE=20 body=8bitmime SMTPUTF8\r\nRCPT TO:<c@D>\r\nRCPT TO:<Postmaster>\r\n\
         DATA\r\nA: b\r\n\r\nné\r\n..\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<x@y>\r\nDATA\r\n.\r\nQUIT\r\n"
            .as_bytes(),
    );
    assert_eq!(codes(&log.output), [220, 250, 250, 250, 250, 354, 250, 250, 250, 354, 250, 221]);
    let [first, second] = &log.messages[..] else { panic!("{log:?}") };
    assert_eq!((first.mail.sender.as_str(), first.mail.declared_size), ("jörg@b", Some(20)));
    assert_eq!((first.mail.body, first.mail.utf8), (BodyType::EightBitMime, SmtpUtf8::Yes));
    assert_eq!(
        first.recipients.iter().map(smtp::Address::as_str).collect::<Vec<_>>(),
        ["c@d", "postmaster@mx.example.org"]
    );
    assert_eq!(first.text, "A: b\r\n\r\nné\r\n.\r\n".as_bytes());
    assert!(first.facts.eight_bit && first.facts.dot_lines);
    assert_eq!((second.mail.sender.as_str(), second.text.len()), ("", 0));
}

#[test]
fn commands_out_of_order_are_refused() {
    for (lines, reply) in [
        ("RCPT TO:<a@b>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nDATA", "554 5.5.1"),
        ("MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nxDATA", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nxRCPT TO:<a@b>", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nxMAIL FROM:<a@b>", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<a@b>", "503 5.5.1"),
        ("MAIL FROM:<a@b>\r\nEHLO me\r\nRCPT TO:<a@b>", "503 5.5.1"),
    ] {
        let last = after_hello(lines);
        assert!(last.starts_with(reply), "{lines:?}: {last}");
    }
    assert!(last(&talk(b"MAIL FROM:<a@b>\r\n")).starts_with("503 5.5.1 say EHLO first"));
}

#[test]
fn parameters_are_read_or_refused_by_name() {
    for (parameters, reply) in [
        ("SIZE=52428801", "552 5.3.4"),
        ("SIZE=99999999999999999999", "552 5.3.4"),
        ("SIZE=x", "501 5.5.4"),
        ("SIZE", "501 5.5.4"),
        ("SIZE=1 SIZE=1", "501 5.5.4"),
        ("BODY=BINARYMIME", "501 5.5.4"),
        ("SMTPUTF8=yes", "501 5.5.4"),
        ("AUTH=<>", "555 5.5.4"),
        ("PIPELINING", "555 5.5.4"),
        ("SIZE=1 BODY=7BIT", "250 2.1.0"),
    ] {
        let last = after_hello(&format!("MAIL FROM:<a@b> {parameters}"));
        assert!(last.starts_with(reply), "{parameters:?}: {last}");
    }
    assert!(after_hello("MAIL FROM:<a@b>\r\nRCPT TO:<a@b> NOTIFY=NEVER").starts_with("555 5.5.4"));
    assert!(after_hello("MAIL FROM:<é@b>").starts_with("553 5.6.7"));
    assert!(after_hello("MAIL FROM:<a@b>\r\nRCPT TO:<é@b>").starts_with("553 5.6.7"));
    assert!(after_hello("MAIL FROM:<a@b> SMTPUTF8\r\nRCPT TO:<é@b>").starts_with("250 2.1.5"));
}

#[test]
fn every_limit_is_kept_and_named() {
    let start = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    let data = format!("{start}DATA\r\n");
    let run = |limits: Limits, wire: &str| serve(wire.as_bytes(), 5, limited(limits), Policy::default());
    let limits = Limits::default;
    let log = run(Limits { recipients: 1, ..limits() }, &format!("{start}RCPT TO:<e@f>\r\nDATA\r\n.\r\n"));
    assert!(log.output.contains("452 4.5.3") && log.messages[0].recipients.len() == 1);
    let log =
        run(Limits { message: base::ByteSize(10), ..limits() }, &format!("{data}123456789\r\n.\r\nNOOP\r\n"));
    assert_eq!(codes(&log.output)[4..], [354, 552, 250]);
    let log =
        run(Limits { hops: 1, ..limits() }, &format!("{data}Received: a\r\nReceived: b\r\n.\r\nNOOP\r\n"));
    assert!(log.output.contains("554 5.4.6") && codes(&log.output).ends_with(&[554, 250]));
    let log = run(
        Limits { command_line: base::ByteSize(40), ..limits() },
        &format!("NOOP {}\r\nNOOP\r\n", "x".repeat(99)),
    );
    assert_eq!(codes(&log.output), [220, 500, 250]);
    let log = run(Limits { errors: 3, ..limits() }, "X\r\nNOOP\r\nX\r\nX\r\nNOOP\r\n");
    assert_eq!(codes(&log.output), [220, 500, 250, 500, 500, 421]);
    let log = run(Limits { errors: 1, ..limits() }, "BDAT 3 LAST\r\nabcNOOP\r\n");
    assert_eq!(codes(&log.output), [220, 503, 421]);
    let log = run(Limits { idle_commands: 3, ..limits() }, "EHLO me\r\nNOOP\r\nVRFY x\r\nRSET\r\nNOOP\r\n");
    assert_eq!(codes(&log.output), [220, 250, 250, 252, 250, 421]);
    assert_eq!(log.events, ["Close"]);
    let message = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nRSET\r\n";
    let log =
        run(Limits { idle_commands: 2, ..limits() }, &format!("EHLO me\r\n{}QUIT\r\n", message.repeat(9)));
    assert_eq!((log.messages.len(), last(&log)), (9, "221 2.0.0 bye"));
}

#[test]
fn refusals_count_as_errors() {
    let errors = |errors| limited(Limits { errors, message: base::ByteSize(10), ..Limits::default() });
    let policy = Policy { refuse_recipients: Some("no"), ..Policy::default() };
    let start = "EHLO me\r\nMAIL FROM:<a@b>\r\n";
    let wire = format!("{start}{}RCPT TO:<yes@b>\r\n", "RCPT TO:<no@b>\r\n".repeat(5));
    let log = serve(wire.as_bytes(), 7, errors(3), policy);
    assert_eq!(codes(&log.output), [220, 250, 250, 550, 550, 550, 421]);
    assert_eq!(last(&log), "421 4.7.0 too many errors");
    let wire = format!("EHLO me\r\n{}", "MAIL FROM:<a@b> SIZE=11\r\n".repeat(5));
    let log = serve(wire.as_bytes(), 7, errors(2), policy);
    assert_eq!(codes(&log.output), [220, 250, 552, 552, 421]);
    let refuse_body = Policy { refuse_body: true, ..Policy::default() };
    for text in ["DATA\r\n", "BDAT 3 LAST\r\nabc"] {
        let log =
            serve(format!("{start}RCPT TO:<c@d>\r\n{text}NOOP\r\n").as_bytes(), 7, errors(1), refuse_body);
        assert_eq!(codes(&log.output), [220, 250, 250, 250, 550, 421], "{text}");
    }
}

#[test]
fn errors_are_forgiven_when_a_message_is_taken() {
    let policy = Policy { refuse_recipients: Some("no"), ..Policy::default() };
    let config = || limited(Limits { errors: 3, ..Limits::default() });
    let message = |end| format!("MAIL FROM:<a@b>\r\nRCPT TO:<no@b>\r\nRCPT TO:<yes@b>\r\n{end}\r\n");
    let wire = format!("EHLO me\r\n{}QUIT\r\n", message("DATA\r\n.").repeat(9));
    let log = serve(wire.as_bytes(), 9, config(), policy);
    assert_eq!((log.messages.len(), last(&log)), (9, "221 2.0.0 bye"));
    for end in ["DATA\r\na\0\r\n.", "RSET"] {
        let log = serve(format!("EHLO me\r\n{}", message(end).repeat(9)).as_bytes(), 9, config(), policy);
        assert_eq!((log.messages.len(), last(&log)), (0, "421 4.7.0 too many errors"), "{end:?}");
    }
}

#[test]
fn what_is_put_off_is_no_error() {
    let mut server = Server::new(limited(Limits { errors: 1, ..Limits::default() }).into());
    let mut input = &b"EHLO me\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n"[..];
    for _ in 0..2 {
        assert!(matches!(server.advance(&mut input), Event::Mail(_)));
        server.reject(&Reply::new(452, (4, 3, 1), "later"));
    }
    assert_eq!(server.advance(&mut input), Event::NeedInput);
}

#[test]
fn recipients_beyond_the_limit_are_errors_only_past_twice_as_many() {
    let run = |recipients: usize| {
        let start = "EHLO me\r\nMAIL FROM:<a@b>\r\n";
        let wire = format!("{start}{}DATA\r\n.\r\n", "RCPT TO:<c@d>\r\n".repeat(recipients));
        let limits = Limits { recipients: 3, errors: 2, ..Limits::default() };
        serve(wire.as_bytes(), 9, limited(limits), Policy::default())
    };
    assert_eq!(codes(&run(7).output)[3..], [250, 250, 250, 452, 452, 452, 452, 354, 250]);
    assert_eq!(codes(&run(20).output)[6..], [452, 452, 452, 452, 452, 421]);
}

#[test]
fn a_message_taken_back_is_told_once() {
    for (lines, told) in [
        ("RSET", 0),
        ("MAIL FROM:<a@b>\r\nRSET\r\nRSET", 1),
        ("MAIL FROM:<a@b>\r\nEHLO me", 1),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nxRSET", 1),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 1 LAST\r\nxRSET", 0),
    ] {
        let log = talk(format!("EHLO me\r\n{lines}\r\n").as_bytes());
        assert_eq!(log.events.iter().filter(|event| *event == "Aborted").count(), told, "{lines:?}");
    }
}

#[test]
fn recipients_that_the_driver_refuses_are_left_out() {
    let policy = Policy { refuse_recipients: Some("no"), ..Policy::default() };
    let config = || Config::new("mx.example.org");
    let wire = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<no@b>\r\nRCPT TO:<yes@b>\r\nDATA\r\n.\r\n";
    let log = serve(wire.as_bytes(), 99, config(), policy);
    assert_eq!(codes(&log.output)[2..], [250, 550, 250, 354, 250]);
    assert_eq!(log.messages[0].recipients.len(), 1);
    let log = serve(b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<no@b>\r\nDATA\r\n", 99, config(), policy);
    assert!(last(&log).starts_with("554 5.5.1 no valid recipients"));
}

#[test]
fn other_protocols_are_sent_away() {
    let log = talk(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO me\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(
        (codes(&log.output).as_slice(), log.events.as_slice()),
        (&[220, 421][..], &["Close".to_owned()][..])
    );
}

#[test]
fn nothing_is_taken_while_an_answer_is_owed() {
    let mut server = Server::new(Config::new("mx.example.org").into());
    let mut input = &b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n"[..];
    assert!(matches!(server.advance(&mut input), Event::Mail(_)));
    let hello = server.hello().unwrap();
    assert_eq!((&*hello.name, hello.dialect), ("me", Dialect::Esmtp));
    let before = input;
    assert_eq!(server.advance(&mut input), Event::NeedInput);
    assert_eq!(before, input);
    server.accept();
    assert!(matches!(server.advance(&mut input), Event::Rcpt(_)));
    server.accept();
    assert_eq!(server.advance(&mut input), Event::BodyStart);
    server.accept();
    assert_eq!(server.advance(&mut input), Event::Body(b"x\r\n"));
    assert!(matches!(server.advance(&mut input), Event::BodyEnd(_)));
    server.accept();
    assert_eq!(server.advance(&mut input), Event::NeedInput);
    server.finish(&Reply::closing("we stop"));
    assert_eq!(server.advance(&mut input), Event::Close);
    assert!(server.output().ends_with(b"421 4.3.2 we stop\r\n"));
    assert_eq!(input, b"NOOP\r\n");
}

#[test]
fn a_session_ends_when_the_driver_says_so() {
    let mut host = Host::new(Config::new("mx.example.org"), Policy::default());
    host.give(b"EHLO me\r\n");
    assert!(host.server.is_idle());
    host.server.close(&Reply::closing("we stop"));
    assert_eq!(host.give(b"NOOP\r\n"), None);
    assert_eq!(last(&host.log), "421 4.3.2 we stop");
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Server>() < 512, "{}", size_of::<Server>());
    let mut server = Server::new(Config::new("mx.example.org").into());
    for _ in 0..50 {
        assert_eq!(server.advance(&mut &b"EHLO client.example.org\r\n"[..]), Event::NeedInput);
    }
    assert!(server.output().len() > 4096);
    server.output().clear();
    assert_eq!(server.advance(&mut &b"NOOP\r\n"[..]), Event::NeedInput);
    assert!(server.output().capacity() < 512, "{}", server.output().capacity());
}

#[test]
fn a_message_may_have_a_priority_and_be_held_until_a_later_time() {
    let ask = |parameters: &str| {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let mut server = Server::new(Config::new("mx.example.org").into()).holding_from(now);
        let lines = format!("EHLO me\r\nMAIL FROM:<a@b> {parameters}\r\n");
        let event = match server.advance(&mut lines.as_bytes()) {
            Event::Mail(mail) => Ok((mail.release, mail.priority)),
            other => Err(format!("{other:?}")),
        };
        (event, String::from_utf8(server.output().clone()).unwrap())
    };
    let (plain, said) = ask("");
    assert_eq!(plain, Ok((None, None)));
    assert!(said.contains("250-FUTURERELEASE 2592000 2026-12-18T"), "{said}");
    assert_eq!(ask("HOLDFOR=90").0, Ok((Some(Release::After(Duration::from_secs(90))), None)));
    let at = Timestamp::from_millis(1_796_000_000_000);
    assert_eq!(ask(&format!("HOLDUNTIL={at} MT-PRIORITY=-3")).0, Ok((Some(Release::At(at)), Some(-3))));
    for wrong in [
        "HOLDFOR=99999999",
        "HOLDFOR=x",
        "HOLDUNTIL=tomorrow",
        "HOLDFOR=1 HOLDFOR=2",
        "MT-PRIORITY=10",
        "MT-PRIORITY",
    ] {
        let (event, said) = ask(wrong);
        assert!(
            event.is_err() && said.ends_with("\r\n") && said.contains("\r\n501 5.5.4"),
            "{wrong}: {said}"
        );
    }
    let mut unaware = Server::new(Config::new("mx.example.org").into());
    let _ = unaware.advance(&mut &b"EHLO me\r\nMAIL FROM:<a@b> HOLDFOR=1\r\n"[..]);
    assert!(String::from_utf8_lossy(unaware.output()).contains("555 5.5.4"));
}
