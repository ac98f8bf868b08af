//! A session whose host says anything.

use smtp::{
    BodyType, Needs, SmtpUtf8,
    client::{Event, RecipientResult, Stage},
};
use testkit::fuzz::Fuzz;

use crate::driver::Sender;

const WORDS: [&str; 22] = [
    "220 mx\r\n",
    "250 ok\r\n",
    "250-mx\r\n250 PIPELINING\r\n",
    "250-mx\r\n250-SIZE 5\r\n250 8BITMIME\r\n",
    "250-SMTPUTF8\r\n",
    "354 go\r\n",
    "450 4.0.0 x\r\n",
    "550 5.1.1 x\r\n",
    "552 too many\r\n",
    "421 bye\r\n",
    "221 bye\r\n",
    "250-",
    "\r\n",
    "250",
    "999 x\r\n",
    "250 ok\n",
    "\u{1}",
    "\u{2}",
    "\0",
    "554 no\r\n",
    "503 what\r\n",
    "250-STARTTLS\r\n",
];

/// A byte that says where a host's words are cut into what is read at once.
const CUT: u8 = 0xfe;

#[test]
fn whatever_a_host_says_each_message_has_one_end_and_none_is_delivered_that_was_not_sent() {
    let seeds = vec![
        b"\x01220 mx\r\n\xfe250-mx\r\n250 PIPELINING\r\n\xfe250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n\xfe250 taken\r\n".to_vec(),
        b"\x02220 mx\r\n\xfe250 mx\r\n\xfe250 ok\r\n\xfe250 ok\r\n\xfe550 no\r\n\xfe354 go\r\n\xfe250 taken\r\n".to_vec(),
        b"\x00220 mx\r\n\xfe500 what\r\n\xfe250 mx\r\n\xfe250 ok\r\n\xfe421 bye\r\n".to_vec(),
    ];
    Fuzz::new(seeds, &WORDS, 8000).run(|input| {
        let [mode, said @ ..] = input else { return Vec::new() };
        let mut sender = Sender::new();
        let needs = Needs {
            body: if mode & 1 != 0 { BodyType::EightBitMime } else { BodyType::SevenBit },
            utf8: if mode & 2 != 0 { SmtpUtf8::Yes } else { SmtpUtf8::No },
        };
        for number in 0..4 {
            let needs = if number == 1 { needs } else { Needs::default() };
            sender.start("s@t", &["a@b", "\u{e9}@d"], needs, b"text\r\n");
        }
        let mut sent = String::new();
        for piece in said.split(|byte| *byte == CUT) {
            let Some(out) = sender.give(piece) else { break };
            sent += str::from_utf8(&out).expect("commands are text");
        }
        judge(&mut sender, &sent)
    });
}

/// Makes sure of the ends; returns what happened.
fn judge(sender: &mut Sender, sent: &str) -> Vec<String> {
    let mut happened = Vec::new();
    let mut tokens: Vec<u32> = Vec::new();
    for unfinished in sender.client.unfinished() {
        tokens.push(unfinished.token);
        happened.push(format!("unfinished {:?}", unfinished.stage));
    }
    let mut delivered = 0;
    for event in &sender.events {
        let Event::Done { token, results } = event else {
            happened.push(format!("{event:?}").chars().take(30).collect());
            continue;
        };
        tokens.push(*token);
        assert_eq!(results.len(), 2);
        for result in results {
            happened.push(match result {
                RecipientResult::Reply { stage, reply } => {
                    assert!(!reply.is_positive() || *stage == Stage::Dot, "{result:?}");
                    format!("{stage:?} {:?}", reply.severity())
                }
                other => format!("{other:?}"),
            });
        }
        let positive = |result: &RecipientResult| matches!(result, RecipientResult::Reply { reply, .. } if reply.is_positive());
        delivered += usize::from(results.iter().any(positive));
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3]);
    assert!(delivered <= sent.matches("text\r\n.\r\n").count());
    happened
}
