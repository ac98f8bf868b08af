//! Real clients hand messages to a real node: what they sent is what the next hop gets, and the log knows it.

use std::{fs, path::PathBuf};

use testkit::{
    Node, Peer, Session, Setup, Taken,
    node::word,
    text::{below_trace, field},
    tools,
};

/// Dots, blanks, tabs, an empty line at the end: all that clients and servers like to change.
const TRICKY: &str = "From: a@example.com\nSubject: tricky\nX-Long: one\n\ttwo\n\n.\n..\n.a line of dots\n\
                      trailing blanks  \t\n\n-- \nFrom here on\n\n";

fn start() -> (Node, Peer) {
    let peer = Peer::willing();
    (Setup::new(env!("CARGO_BIN_EXE_posthouse")).to(&peer).start(), peer)
}

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// What swaks and smtp-source make of a file: they end it with a line of their own.
fn and_an_empty_line() -> Vec<u8> {
    [crlf(TRICKY), b"\r\n".to_vec()].concat()
}

/// A file with this text in the node's folder.
fn file(node: &Node, text: &[u8]) -> PathBuf {
    let path = node.setup().folder().join("message.eml");
    fs::write(&path, text).expect("the folder is ours");
    path
}

/// The only message that the peer got, for this recipient; its records are as they should be.
fn delivered(node: &Node, peer: &Peer, recipient: &str) -> Taken {
    let taken = peer.wait_for(1).remove(0);
    assert_eq!(taken.recipients, [recipient]);
    let records = node.records_of(recipient, 2);
    let happened: Vec<_> = records.iter().map(|record| word(record, "what")).collect();
    assert_eq!(happened, ["accepted", "delivered"]);
    assert_eq!(records[0]["size"], taken.text.len());
    assert!(word(&records[0], "client").starts_with("127.0.0.1:"), "{}", records[0]);
    assert_eq!(records[1]["remote_address"], peer.address().to_string());
    assert_eq!(records[1]["reply"], "250 2.0.0 taken");
    for record in &records {
        assert_eq!((&record["node"], &record["sender"]), (&"mx1".into(), &taken.sender.as_str().into()));
    }
    let id = word(&records[0], "message");
    assert!(field(&taken.text, "Received").expect("it is ours").contains("127.0.0.1"));
    assert!(String::from_utf8_lossy(&taken.text).contains(&format!(" id {id}\r\n")));
    assert_eq!((peer.count(), peer.faults()), (1, Vec::new()));
    taken
}

fn swaks(node: &Node, flags: &[&str]) -> String {
    let path = file(node, TRICKY.as_bytes());
    let mut swaks = tools::foreign("swaks");
    swaks.args(["--server", &node.smtp().to_string(), "--from", "a@example.com", "--to", "b@example.net"]);
    swaks.args(["--helo", "client.example", "--data"]).arg(format!("@{}", path.display())).args(flags);
    tools::run(&mut swaks, b"").done()
}

#[test]
fn swaks_delivers_byte_for_byte() {
    let (node, peer) = start();
    let shown = swaks(&node, &[]);
    assert!(shown.contains("250 2.0.0 queued as "), "{shown}");
    assert_eq!(below_trace(&delivered(&node, &peer, "b@example.net").text), and_an_empty_line());
}

#[test]
fn swaks_with_pipelining_delivers_byte_for_byte() {
    let (node, peer) = start();
    let shown = swaks(&node, &["--pipeline"]);
    assert!(shown.contains("PIPELINING"), "{shown}");
    assert_eq!(below_trace(&delivered(&node, &peer, "b@example.net").text), and_an_empty_line());
}

/// swaks of Debian 12 does not know BDAT, nor do smtplib and curl.
#[test]
fn chunks_are_delivered_as_one_text() {
    let (node, peer) = start();
    let mut session = Session::open(node.smtp());
    session.envelope("a@example.com", &["b@example.net"]);
    let text = crlf(TRICKY);
    let (first, rest) = text.split_at(text.len() / 2);
    for chunk in first.chunks(7) {
        let reply = session.send(&[format!("BDAT {}\r\n", chunk.len()).as_bytes(), chunk].concat());
        assert_eq!(reply.code, 250, "{reply}");
    }
    assert_eq!(session.bdat(rest).code, 250);
    assert_eq!(below_trace(&delivered(&node, &peer, "b@example.net").text), text);
}

#[test]
fn smtplib_delivers_byte_for_byte() {
    let (node, peer) = start();
    let script = "
import smtplib, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as client:
    print(client.sendmail('a@example.com', ['b@example.net'], sys.stdin.buffer.read()))";
    let refused = tools::python(script, &[&node.smtp().port().to_string()], &crlf(TRICKY));
    assert_eq!(refused, "{}\n");
    let taken = delivered(&node, &peer, "b@example.net");
    assert_eq!(below_trace(&taken.text), crlf(TRICKY));
    assert!(!taken.mail.contains("8BITMIME") && !taken.mail.contains("SMTPUTF8"), "{}", taken.mail);
}

#[test]
fn smtplib_delivers_eight_bit_text() {
    let (node, peer) = start();
    let script = "
import smtplib, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as client:
    client.sendmail('a@example.com', ['b@example.net'], sys.stdin.buffer.read(), ['BODY=8BITMIME'])";
    let text = "Subject: eight\r\n\r\nGr\u{fc}\u{df}e, \u{20ac}\r\n".as_bytes();
    let latin = [text, b"\xe4\xf6\xfc\xff\x80\r\n"].concat();
    let _ = tools::python(script, &[&node.smtp().port().to_string()], &latin);
    let taken = delivered(&node, &peer, "b@example.net");
    assert_eq!(below_trace(&taken.text), latin);
    assert!(taken.mail.contains(" BODY=8BITMIME"), "{}", taken.mail);
}

#[test]
fn smtplib_delivers_addresses_and_fields_in_utf_8() {
    let (node, peer) = start();
    let script = "
import smtplib, sys
from email.message import EmailMessage
message = EmailMessage()
message['From'] = 'j\u{f6}rg@example.com'
message['To'] = '\u{3b1}@example.net'
message['Subject'] = 'Gr\u{fc}\u{df}e'
message.set_content('hello\\n')
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as client:
    client.send_message(message)";
    let _ = tools::python(script, &[&node.smtp().port().to_string()], b"");
    let taken = delivered(&node, &peer, "\u{3b1}@example.net");
    assert!(taken.mail.starts_with("MAIL FROM:<j\u{f6}rg@example.com>"), "{}", taken.mail);
    assert!(taken.mail.contains(" SMTPUTF8"), "{}", taken.mail);
    assert_eq!(field(&taken.text, "Subject"), Some("Gr\u{fc}\u{df}e"));
}

#[test]
fn curl_delivers_byte_for_byte() {
    let (node, peer) = start();
    let path = file(&node, &crlf(TRICKY));
    let mut curl = tools::system("curl");
    curl.args(["--silent", "--show-error", "--mail-from", "a@example.com", "--mail-rcpt", "b@example.net"]);
    curl.arg("--upload-file").arg(path).arg(format!("smtp://{}/client.example", node.smtp()));
    let _ = tools::run(&mut curl, b"").done();
    assert_eq!(below_trace(&delivered(&node, &peer, "b@example.net").text), crlf(TRICKY));
}

#[test]
fn every_message_of_many_sessions_of_smtp_source_comes_through() {
    let (node, peer) = start();
    let path = file(&node, TRICKY.as_bytes());
    let mut source = tools::foreign("smtp-source");
    source.args(["-s", "20", "-m", "400", "-f", "a@example.com", "-t", "b@example.net", "-F"]).arg(path);
    let _ = tools::run(source.arg(node.smtp().to_string()), b"").done();
    let taken = peer.wait_for(400);
    for message in &taken {
        assert_eq!(below_trace(&message.text), and_an_empty_line());
    }
    let log = node.quiet();
    assert_eq!((taken.len(), peer.count(), log.len(), peer.faults()), (400, 400, 800, Vec::new()));
    let status = node.json(&["status"]);
    assert_eq!((&status["accepted"], &status["delivered"]), (&400.into(), &400.into()));
    assert_eq!((&status["queued"], &status["bounced"]), (&0.into(), &0.into()));
}
