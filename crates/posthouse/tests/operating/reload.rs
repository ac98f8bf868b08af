//! Reading the configuration again: all of it counts at once, or nothing changes.

use std::{fs, net::TcpStream};

use testkit::{Node, Peer, Session, Setup, free_address, tools::python, until};

use super::{PROGRAM, failed, send};

/// A file with a small spool, this smarthost, and more.
fn file(peer: &Peer, more: &str) -> String {
    format!("[spool]\nsegment = \"4MiB\"\n[delivery]\nsmarthost = \"{}\"\n{more}", peer.address())
}

fn rewrite(node: &Node, text: &str) {
    fs::write(node.setup().folder().join("posthouse.toml"), text).expect("the folder is ours");
}

#[test]
fn mail_goes_another_way_from_the_reload_on() {
    let (first, second) = (Peer::willing(), Peer::willing());
    let node = Setup::new(PROGRAM).file(&file(&first, "")).start();
    send(&node, "a@example.net", "one");
    assert_eq!(first.wait_for(1).len(), 1);
    rewrite(&node, &file(&second, ""));
    let shown = node.command(&["reload"]).done();
    let expected = format!("delivery.smarthost  \"{}\"  → \"{}\"\n", first.address(), second.address());
    assert_eq!(shown, expected);
    send(&node, "a@example.net", "two");
    assert_eq!(second.wait_for(1).len(), 1);
    assert_eq!(first.count(), 1);
    assert_eq!(node.command(&["reload"]).done(), "The configuration is as before.\n");
    let said = node.said("the configuration has changed");
    assert!(said.contains("\"key\":\"delivery.smarthost\""), "{said}");
}

#[test]
fn flags_of_the_running_node_still_go_over_the_file() {
    let peer = Peer::willing();
    let node = Setup::new(PROGRAM).flag("--expire", "2h").file(&file(&peer, "")).start();
    rewrite(&node, &file(&peer, "expire = \"3h\"\n"));
    assert_eq!(node.command(&["reload"]).done(), "The configuration is as before.\n");
}

#[test]
fn where_anything_is_refused_nothing_changes() {
    let (first, second) = (Peer::willing(), Peer::willing());
    let node = Setup::new(PROGRAM).flag("--smtp", "127.0.0.1:0").file(&file(&first, "")).start();
    let path = node.setup().folder().join("posthouse.toml");
    rewrite(&node, &file(&second, "").replace("4MiB", "8MiB"));
    let report = node.command(&["reload"]);
    assert!(report.stdout.contains("spool.segment       \"4MiB\""), "{}", report.stdout);
    assert!(
        report.stdout.lines().any(|line| line.contains("→ \"8MiB\"") && line.ends_with("  needs a restart")),
        "{}",
        report.stdout
    );
    assert_eq!(report.code, Some(1));
    assert!(
        report.stderr.starts_with("error: nothing was changed: spool.segment can change only"),
        "{}",
        report.stderr
    );

    rewrite(&node, &file(&second, "expires = \"3h\"\n"));
    let wrong = format!(
        "nothing was changed: {}:5: there is no key \"delivery.expires\"; did you mean \"delivery.expire\"?",
        path.display()
    );
    failed(&node.command(&["reload"]), 1, &wrong, "");
    node.hang_up();
    node.said("there is no key");

    let nowhere = path.with_file_name("nowhere.pem");
    let verify = format!("[delivery.tls]\nmode = \"verify\"\nroots = \"{}\"\n", nowhere.display());
    rewrite(&node, &file(&second, &verify));
    let refused = node.command(&["reload"]);
    assert!(refused.stderr.starts_with("error: nothing was changed: "), "{}", refused.stderr);
    assert!(refused.stderr.contains("nowhere.pem"), "{}", refused.stderr);

    let taken = node.smtp();
    rewrite(&node, &file(&second, &format!("[console]\nlisten = \"{taken}\"\n")));
    // The console's address is a flag of this node, so this is refused only where the file counts.
    assert_eq!(node.command(&["reload"]).code, Some(0));
    send(&node, "a@example.net", "to the second");
    assert_eq!(second.wait_for(1).len(), 1);
    assert_eq!(first.count(), 0);
}

#[test]
fn doors_open_before_others_close_and_who_is_in_stays() {
    let peer = Peer::willing();
    let (one, other, console) = (free_address(), free_address(), free_address());
    let listen = |smtp: &str, console: &str| {
        file(&peer, &format!("[smtp]\nlisten = [{smtp}]\n[console]\nlisten = \"{console}\"\n"))
    };
    let first = listen(&format!("\"{one}\""), "127.0.0.1:0");
    let node = Setup::new(PROGRAM).ports_of_the_file().file(&first).start();
    assert_eq!(node.smtp(), one);
    let mut session = Session::open(one);

    // A port that another program has: neither address changes.
    rewrite(&node, &listen(&format!("\"{other}\", \"{}\"", peer.address()), &console.to_string()));
    let refused = node.command(&["reload"]);
    assert!(refused.stderr.contains("nothing was changed: cannot listen on"), "{}", refused.stderr);
    assert!(TcpStream::connect(other).is_err() && TcpStream::connect(console).is_err());

    let old_console = node.console();
    rewrite(&node, &listen(&format!("\"{other}\""), &console.to_string()));
    node.hang_up();
    node.said("the configuration was read again and counts");
    drop(Session::open(other));
    until("the old doors to be closed", || {
        (TcpStream::connect(one).is_err() && TcpStream::connect(old_console).is_err()).then_some(())
    });
    assert!(TcpStream::connect(console).is_ok());
    session.envelope("a@example.com", &["b@example.net"]);
    assert_eq!(session.data(b"Subject: still in\r\n\r\nhello\r\n").code, 250);
    assert_eq!(peer.wait_for(1).len(), 1);
}

#[test]
fn limits_change_while_sessions_are_open() {
    let peer = Peer::willing();
    let node = Setup::new(PROGRAM).file(&file(&peer, "")).start();
    let mut before = Session::open(node.smtp());
    rewrite(&node, &file(&peer, "[limits]\nsessions = 1\nmessage = \"64KiB\"\n[relay]\nfrom = []\n"));
    let shown = node.command(&["reload"]).done();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    // The open session is the one that there may be.
    assert!(Session::greeted(node.smtp()).is_err());
    // It keeps the limits of its protocol, and asks anew who may relay.
    assert_eq!(before.say("MAIL FROM:<a@example.com> SIZE=100000").code, 250);
    assert_eq!(before.say("RCPT TO:<b@example.net>").code, 550);
}

/// Opens a session and resets it, which is worth a line of the level `debug` and no other.
const RESET: &str = "
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.recv(100)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
";

#[test]
fn the_level_of_the_lines_changes_too() {
    let peer = Peer::willing();
    let node = Setup::new(PROGRAM).file(&file(&peer, "")).start();
    rewrite(&node, &file(&peer, "[log]\nlevel = \"debug\"\n"));
    assert_eq!(node.command(&["reload"]).done(), "log.level  \"info\"  → \"debug\"\n");
    assert_eq!(python(RESET, &["127.0.0.1", &node.smtp().port().to_string()], b""), "");
    node.said("\"level\":\"DEBUG\"");
}
