//! Mail servers that people run, before us and behind us: Postfix, OpenSMTPD and Exim from Debian.
//!
//! Texts come through unchanged below the trace fields, every recipient once, and refusals reach the sender.

mod before;
mod behind;

use std::collections::BTreeMap;

use testkit::{Peer, Session, Setup, Taken, text::below_trace};

/// What a host must offer for a message to go through it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    SmtpUtf8,
}

/// A message of these stories.
struct Message {
    name: &'static str,
    parameters: &'static str,
    recipients: Vec<String>,
    text: Vec<u8>,
    needs: Needs,
}

/// More recipients than go with one message, of most hosts and of ours.
const MANY: usize = 130;

fn messages() -> Vec<Message> {
    let message = |name, parameters, recipients: &[&str], body: &[u8], needs| Message {
        name,
        parameters,
        recipients: recipients.iter().map(ToString::to_string).collect(),
        text: [header(name).as_bytes(), body].concat(),
        needs,
    };
    let large: Vec<u8> = (0..80_000_u32).flat_map(|line| format!("{line:>70}\r\n").into_bytes()).collect();
    let mut many = message("many", "", &[], b"to all of you\r\n", Needs::Nothing);
    many.recipients = (0..MANY).map(|number| format!("many{number}@example.net")).collect();
    vec![
        message("plain", "", &["plain@example.net"], b"hello\r\n\r\nand so on\r\n", Needs::Nothing),
        message("dots", "", &["dots@example.net"], b".\r\n..\r\n.x\r\n\r\n. \r\n", Needs::Nothing),
        message("empty", "", &["empty@example.net"], b"", Needs::Nothing),
        message(
            "eight",
            " BODY=8BITMIME",
            &["eight@example.net", "bit@example.net"],
            "Gr\u{fc}\u{df}e\r\n\u{2709}\r\n".as_bytes(),
            Needs::Nothing,
        ),
        message(
            "utf8",
            " BODY=8BITMIME SMTPUTF8",
            &["j\u{f6}rg@example.net"],
            "Gr\u{fc}\u{df}e\r\n".as_bytes(),
            Needs::SmtpUtf8,
        ),
        message("large", "", &["large@example.net"], &large, Needs::Nothing),
        many,
    ]
}

/// A whole header section, so that nobody has to add a field.
fn header(name: &str) -> String {
    format!(
        "Date: Thu, 26 Nov 2026 12:00:00 +0000\r\nFrom: <{SENDER}>\r\nTo: undisclosed-recipients:;\r\n\
         Subject: {name}\r\nMessage-ID: <{name}@example.com>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
}

const SENDER: &str = "a@example.com";

/// Hands a message in; all of its recipients have to be taken.
fn hand_in(session: &mut Session, message: &Message) {
    let reply = session.say(&format!("MAIL FROM:<{SENDER}>{}", message.parameters));
    assert_eq!(reply.code, 250, "{}: {reply}", message.name);
    for recipient in &message.recipients {
        let reply = session.say(&format!("RCPT TO:<{recipient}>"));
        assert_eq!(reply.code, 250, "{recipient}: {reply}");
    }
    let reply = session.data(&message.text);
    assert_eq!(reply.code, 250, "{}: {reply}", message.name);
}

/// Waits until all recipients of these messages have them at the last peer, and makes sure that they came once, and as they were below
/// this many trace fields.
fn arrived(messages: &[Message], last: &Peer, traces: usize) {
    let expected: usize = messages.iter().map(|message| message.recipients.len()).sum();
    let texts = |peer: &Peer| -> Vec<Taken> {
        peer.taken().into_iter().filter(|taken| taken.sender == SENDER).collect()
    };
    testkit::until("all recipients at the last peer", || {
        let came: usize = texts(last).iter().map(|taken| taken.recipients.len()).sum();
        (came >= expected).then_some(())
    });
    let mut came: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for taken in texts(last) {
        let text = (0..traces).fold(&taken.text[..], |text, _| below_trace(text));
        for recipient in taken.recipients {
            assert!(came.insert(recipient.clone(), text.to_vec()).is_none(), "{recipient} got it twice");
        }
    }
    for message in messages {
        for recipient in &message.recipients {
            let text =
                came.get(recipient).unwrap_or_else(|| panic!("{recipient} got nothing: {:?}", came.keys()));
            assert!(
                *text == message.text,
                "{}: {}",
                message.name,
                String::from_utf8_lossy(&text[..text.len().min(900)])
            );
        }
    }
    assert_eq!((came.len(), last.faults()), (expected, Vec::new()));
}

fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).flag("--retry", "300ms")
}
