//! Nothing that only looks like the end of a text ends it, on the way in or on the way out.

use std::collections::BTreeMap;

use testkit::{
    Node, Peer, Session, Setup,
    client::Reply,
    text::{below_trace, count},
};

fn start() -> (Node, Peer) {
    let peer = Peer::willing();
    (Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(&peer).start(), peer)
}

/// What some servers somewhere have taken for the end of a text.
const LOOK_ALIKES: [&[u8]; 14] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\r\n\0.\r\n",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\n\r.\n\r",
];

/// A whole second message, as an attacker wants it to be seen.
const SMUGGLED: &[u8] =
    b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nSubject: smuggled\r\n";

/// A text with something in it that looks like an end, and a second message behind.
fn text_with(look_alike: &[u8]) -> Vec<u8> {
    [b"Subject: outer\r\n\r\nbegin", look_alike, SMUGGLED, b"\r\nend of all\r\n"].concat()
}

/// Nothing came through but the message that a decent client sends last.
fn only_the_decent_one_came(node: &Node, peer: &Peer, session: &mut Session) {
    session.envelope("a@example.com", &["b@example.net"]);
    assert_eq!(session.data(b"Subject: decent\r\n\r\nhello\r\n").code, 250);
    let taken = peer.wait_for(1);
    assert_eq!(below_trace(&taken[0].text), b"Subject: decent\r\n\r\nhello\r\n");
    let log = node.quiet();
    let of_mail = log.iter().filter(|record| record["what"] != "refused").count();
    assert_eq!((peer.count(), peer.faults(), of_mail), (1, Vec::new(), 2), "{log:?}");
}

fn is_refused(reply: &Reply, look_alike: &[u8]) {
    let seen = String::from_utf8_lossy(look_alike).into_owned();
    assert_eq!(reply.code, 550, "{seen:?}: {reply}");
    assert!(reply.text.starts_with("5.6.0 message has a "), "{seen:?}: {reply}");
}

#[test]
fn what_looks_like_the_end_of_data_refuses_the_message_and_nothing_behind_it_is_a_command() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    for look_alike in LOOK_ALIKES {
        session.envelope("a@example.com", &["b@example.net"]);
        assert_eq!(session.say("DATA").code, 354);
        is_refused(&session.send(&[&text_with(look_alike), &b".\r\n"[..]].concat()), look_alike);
    }
    only_the_decent_one_came(&node, &peer, &mut session);
}

#[test]
fn the_end_of_data_is_found_in_the_same_place_byte_by_byte() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    for look_alike in LOOK_ALIKES {
        session.envelope("a@example.com", &["b@example.net"]);
        assert_eq!(session.say("DATA").code, 354);
        for byte in [&text_with(look_alike), &b".\r\n"[..]].concat().chunks(1) {
            session.write(byte).unwrap();
        }
        is_refused(&session.reply().unwrap(), look_alike);
    }
    only_the_decent_one_came(&node, &peer, &mut session);
}

#[test]
fn what_looks_like_the_end_of_data_in_a_chunk_refuses_the_message() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    for look_alike in LOOK_ALIKES {
        session.envelope("a@example.com", &["b@example.net"]);
        is_refused(&session.bdat(&text_with(look_alike)), look_alike);
    }
    only_the_decent_one_came(&node, &peer, &mut session);
}

#[test]
fn what_looks_like_the_end_of_data_across_two_chunks_refuses_the_message() {
    let (node, peer) = start();
    let before = b"Subject: outer\r\n\r\nbegin".len();
    for look_alike in LOOK_ALIKES {
        for middle in before..=before + look_alike.len() {
            let text = text_with(look_alike);
            let (first, last) = text.split_at(middle);
            let mut session = Session::open(node.smtp());
            session.envelope("a@example.com", &["b@example.net"]);
            let reply = session.send(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat());
            let end = session.bdat(last);
            if reply.code == 250 {
                is_refused(&end, look_alike);
            } else {
                is_refused(&reply, look_alike);
                // The message is gone, and the chunk is swallowed.
                assert_eq!(end.code, 503, "{end}");
            }
            assert_eq!(session.say("QUIT").code, 221);
        }
    }
    only_the_decent_one_came(&node, &peer, &mut Session::open(node.smtp()));
}

#[test]
fn commands_pipelined_behind_a_refused_text_are_commands_only_after_its_true_end() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["b@example.net"]);
    assert_eq!(session.say("DATA").code, 354);
    let wire = [&text_with(b"\n.\n")[..], b".\r\nRSET\r\nNOOP\r\n"].concat();
    session.write(&wire).unwrap();
    let codes = [(); 3].map(|()| session.reply().unwrap().code);
    assert_eq!(codes, [550, 250, 250]);
    only_the_decent_one_came(&node, &peer, &mut session);
}

/// The true end of a text in a chunk is text there: its dots go out stuffed.
#[test]
fn a_true_end_of_data_inside_a_chunk_stays_text() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["b@example.net"]);
    let text = text_with(b"\r\n.\r\n");
    assert_eq!(session.bdat(&text).code, 250);
    let taken = peer.wait_for(1);
    assert_eq!(below_trace(&taken[0].text), text);
    assert_eq!((node.quiet().len(), peer.count(), peer.faults()), (2, 1, Vec::new()));
}

#[test]
fn texts_of_dots_arrive_as_they_were_and_every_text_ends_once() {
    let texts: [&[u8]; 10] = [
        b"Subject: 0\r\n\r\n.\r\n",
        b".Subject: 1\r\n\r\n.one\r\n..two\r\n...three\r\n",
        b"Subject: 2\r\n\r\n.\r\n.\r\n.\r\n\r\n.\r\n\r\n",
        b"Subject: 3\r\n\r\nno end",
        b"Subject: 4\r\n\r\n.",
        b"Subject: 5\r\n\r\nends in an empty line\r\n\r\n",
        b"Subject: 6",
        b".",
        b"\r\n",
        b"",
    ];
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    let mut sent = BTreeMap::new();
    for (number, text) in texts.iter().enumerate() {
        let (chunk, data) = (format!("chunk{number}@example.net"), format!("data{number}@example.net"));
        // A last line without its end gets it; only a chunk can lack it.
        let whole = if text.is_empty() || text.ends_with(b"\r\n") {
            text.to_vec()
        } else {
            [text, &b"\r\n"[..]].concat()
        };
        session.envelope("a@example.com", &[&chunk]);
        assert_eq!(session.bdat(text).code, 250, "{number}");
        session.envelope("a@example.com", &[&data]);
        assert_eq!(session.data(&whole).code, 250, "{number}");
        sent.extend([(chunk, whole.clone()), (data, whole)]);
    }
    let taken = peer.wait_for(sent.len());
    for message in &taken {
        let text = &sent[&message.recipients[0]];
        assert_eq!(below_trace(&message.text), text, "{}", message.recipients[0]);
        wire_is_clean(&message.wire);
    }
    assert_eq!((taken.len(), peer.faults()), (sent.len(), Vec::new()));
}

/// One true end, at the end, and neither CR nor LF on its own.
fn wire_is_clean(wire: &[u8]) {
    let wire = [b"\r\n", wire].concat();
    assert!(wire.ends_with(b"\r\n.\r\n"));
    assert_eq!(count(&wire, b"\r\n.\r\n"), 1);
    let ends = count(&wire, b"\r\n");
    let lone = |byte: u8| wire.iter().filter(|found| **found == byte).count();
    assert_eq!((lone(b'\r'), lone(b'\n'), lone(0)), (ends, ends, 0));
}

/// Bodies over 1 MiB are read back in pieces, so a dot may come first in one.
#[test]
fn a_large_text_of_dots_arrives_as_it_was() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    let mut text = b"Subject: dots\r\n\r\n".to_vec();
    for number in 0..500_000_usize {
        text.extend_from_slice(&b"......."[..1 + number % 7]);
        text.extend_from_slice(b"\r\n");
    }
    assert!(text.len() > 2 << 20);
    for recipient in ["data@example.net", "chunk@example.net"] {
        session.envelope("a@example.com", &[recipient]);
        let reply = if recipient.starts_with("data") { session.data(&text) } else { session.bdat(&text) };
        assert_eq!(reply.code, 250, "{reply}");
    }
    for message in peer.wait_for(2) {
        assert!(below_trace(&message.text) == text, "{} is not what was sent", message.recipients[0]);
        wire_is_clean(&message.wire);
    }
    assert_eq!(peer.faults(), Vec::<String>::new());
}
