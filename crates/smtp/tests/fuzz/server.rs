//! A session that is given any bytes, in any pieces.

use smtp::{
    ReplyParser,
    server::{Config, Limits},
};
use testkit::fuzz::Fuzz;

use crate::driver::{Log, Policy, codes, serve};

const WORDS: [&str; 36] = [
    "EHLO me\r\n",
    "HELO me\r\n",
    "MAIL FROM:<a@b>\r\n",
    "MAIL FROM:<> SIZE=9 SMTPUTF8\r\n",
    "RCPT TO:<c@d>\r\n",
    "RCPT TO:<no@d>\r\n",
    "DATA\r\n",
    "BDAT 5\r\n",
    "BDAT 9 LAST\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 99999999999999999999\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "VRFY x\r\n",
    " BODY=8BITMIME",
    " SIZE=",
    " HOLDFOR=",
    " HOLDUNTIL=",
    " MT-PRIORITY=",
    "STARTTLS\r\n",
    "AUTH PLAIN x\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "..\r\n",
    ".",
    "\r",
    "\n",
    "\0",
    "\r\n",
    "Received: x\r\n",
    "Subject:",
    "\n.\n",
    "\u{e9}",
    "<@a,@b:c@d>",
    "\"a b\"@[192.0.2.1]",
];

#[test]
fn any_bytes_are_taken_the_same_in_any_pieces_and_nothing_smuggles() {
    let seeds = vec![
        b"\0\x07EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n..\r\n.\r\nQUIT\r\n".to_vec(),
        b"\x01\x03EHLO me\r\nMAIL FROM:<a@b> SIZE=20\r\nRCPT TO:<c@d>\r\nRCPT TO:<no@d>\r\nBDAT 5\r\nhello\r\nBDAT 2 LAST\r\n\r\n".to_vec(),
        b"\x02\x01HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nRSET\r\nNOOP\r\nVRFY\r\nQUIT\r\n".to_vec(),
    ];
    Fuzz::new(seeds, &WORDS, 8000).run(|input| {
        let [mode, step, script @ ..] = input else { return Vec::new() };
        let policy =
            Policy { refuse_recipients: Some("no"), refuse_body: mode & 1 != 0, discard: mode & 2 != 0 };
        let whole = serve(script, usize::MAX, config(), policy);
        let split = serve(script, usize::from(*step).max(1), config(), policy);
        if policy.discard {
            // Whether the driver or the session gives a message up first depends on the pieces.
            let kinds = |log: &Log| codes(&log.output).iter().map(|code| code / 100).collect::<Vec<_>>();
            assert_eq!(kinds(&whole), kinds(&split));
        } else {
            assert_eq!(whole, split);
        }
        says_replies(&whole);
        smuggles_nothing(&whole);
        let events =
            whole.events.iter().map(|event| event.split([' ', '(']).next().unwrap_or_default().to_owned());
        events.chain(codes(&whole.output).iter().map(ToString::to_string)).collect()
    });
}

fn config() -> Config {
    let limits = Limits {
        errors: 6,
        idle_commands: 8,
        command_line: base::ByteSize(128),
        message: base::ByteSize(5000),
        ..Limits::default()
    };
    Config { limits, ..Config::new("mx.example.org") }
}

fn says_replies(log: &Log) {
    let (mut parser, mut output) = (ReplyParser::new(), log.output.as_bytes());
    while parser.advance(&mut output).expect("a server says replies").is_some() {}
    let end = parser.advance(&mut &b"299 end\r\n"[..]);
    assert_eq!(end, Ok(Some(smtp::Reply::plain(299, "end"))), "a reply is left open");
}

fn smuggles_nothing(log: &Log) {
    for message in &log.messages {
        let text = &message.text;
        assert!(text.is_empty() || text.ends_with(b"\r\n"));
        assert!(!text.contains(&0) && text.len() <= 5000);
        for (at, byte) in text.iter().enumerate() {
            assert!(*byte != b'\n' || at > 0 && text[at - 1] == b'\r');
            assert!(*byte != b'\r' || text.get(at + 1) == Some(&b'\n'));
        }
        for recipient in &message.recipients {
            assert!(
                !recipient.as_str().contains(|c: char| c.is_control() || "<>".contains(c)),
                "{recipient:?}"
            );
        }
    }
}
