//! Replies of any bytes, in any pieces.

use smtp::{Reply, ReplyError, ReplyParser, client::Capabilities};
use testkit::fuzz::Fuzz;

const WORDS: [&str; 16] = [
    "250 ok\r\n",
    "250-2.0.0 a\r\n",
    "450 4.7.1 x\n",
    "550-5.1.1",
    "250-SIZE 99999999999999999999\r\n",
    "\r",
    "\n",
    "5",
    " ",
    "-",
    ".",
    "\u{1b}[31m",
    "\u{202e}",
    "\0",
    "599",
    "354",
];

#[test]
fn any_replies_read_the_same_in_any_pieces_and_hold_nothing_that_is_not_shown() {
    let seeds =
        vec![b"\x05220 mx ESMTP\r\n250-mx\r\n250-SIZE 10\r\n250 PIPELINING\r\n550 5.1.1 no\r\n".to_vec()];
    Fuzz::new(seeds, &WORDS, 2000).run(|input| {
        let [step, said @ ..] = input else { return Vec::new() };
        let whole = all([said]);
        assert_eq!(whole, all(said.chunks(usize::from(*step).max(1))));
        whole.iter().map(kind).collect()
    });
}

fn kind(read: &Result<Reply, ReplyError>) -> String {
    match read {
        Ok(reply) => {
            assert!((200..600).contains(&reply.code) && reply.text.len() <= 3 * (16 << 10) + 2048);
            let hidden = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
            assert!(!reply.text.contains(hidden), "{reply:?}");
            format!(
                "{} {:?} {:?}",
                reply.code / 100,
                reply.enhanced.is_some(),
                Capabilities::parse(&reply.text)
            )
        }
        Err(error) => format!("{error:?}").split(['(', '{']).next().unwrap_or_default().to_owned(),
    }
}

fn all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Reply, ReplyError>> {
    let (mut parser, mut replies) = (ReplyParser::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match parser.advance(&mut piece) {
                Ok(None) => break,
                Ok(Some(reply)) => replies.push(Ok(reply)),
                Err(error) => {
                    replies.push(Err(error));
                    return replies;
                }
            }
        }
    }
    replies
}
