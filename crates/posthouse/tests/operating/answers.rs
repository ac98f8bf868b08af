//! The commands that ask a running node, as people and as programs read their answers.

use std::process::Command;

use serde_json::Value;
use testkit::{
    Moment, Move, Node, Peer, Setup,
    node::word,
    text::{below_trace, field},
    tools, until,
};

use super::{PROGRAM, failed, send, setup};

/// A peer that takes mail for `taken`, defers what is for `busy`, and refuses `gone`.
fn moody() -> Peer {
    Peer::start(|moment| match moment {
        Moment::Recipient("gone@example.net") => Move::Say("550 5.1.1 nobody of this name".into()),
        Moment::Recipient("busy@example.org") => Move::Say("450 4.2.1 come back later".into()),
        _ => Move::Go,
    })
}

/// A node that has accepted one message for each of three recipients and has delivered one of them, deferred
/// one, and bounced one, with a report to the sender; returns the id of the message for all.
fn with_three_fates() -> (Node, Peer, String) {
    let peer = moody();
    let node = setup().to(&peer).flag("--retry", "1h").start();
    let sent = node.json(&[
        "mail",
        "send",
        "--from",
        "a@example.com",
        "--to",
        "taken@example.net",
        "--to",
        "gone@example.net",
        "--to",
        "busy@example.org",
        "--subject",
        "Three",
        "--body",
        "fates",
    ]);
    assert_eq!(sent["recipients"], 3);
    until("the fates of all, and the report, in the log", || (node.log().len() == 8).then_some(()));
    let id = word(&sent, "id").to_owned();
    (node, peer, id)
}

#[test]
fn status_shows_what_came_of_it_all() {
    let (node, ..) = with_three_fates();
    let status = node.json(&["status"]);
    for (key, value) in
        [("accepted", 4), ("delivered", 2), ("deferred", 1), ("bounced", 1), ("expired", 0), ("queued", 1)]
    {
        assert_eq!(status[key], value, "{key}: {status}");
    }
    assert_eq!((&status["name"], &status["role"]), (&"mx1".into(), &"standalone".into()));
    let text = node.command(&["status"]).done();
    assert!(text.starts_with("mx1 (standalone) is ready; up "), "{text}");
    let shown = |line: &str| text.lines().any(|shown| shown.split_whitespace().take(2).eq(line.split(' ')));
    for line in ["accepted 4", "delivered 2", "deferred 1", "bounced 1", "queued 1"] {
        assert!(shown(line), "{line}: {text}");
    }
    assert!(text.contains("\nspool: 1 segment in use, "), "{text}");
    assert!(text.contains("MiB on disk; message log: ") && text.ends_with("iB left there\n"), "{text}");
}

#[test]
fn the_queue_shows_what_waits_and_why() {
    let (node, _peer, id) = with_three_fates();
    let text = node.command(&["mail", "queue"]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("DESTINATION  WORKS  RECIPIENTS  OLDEST  "), "{text}");
    assert!(lines[1].starts_with("example.org      1           1 "), "{text}");
    assert!(lines[1].contains(" in ") && lines[1].ends_with("450 4.2.1 come back later"), "{text}");

    let report = node.json(&["mail", "queue", "example.org"]);
    assert_eq!(
        (&report["destinations"][0]["works"], &report["destinations"][0]["recipients"]),
        (&1.into(), &1.into())
    );
    let work = &report["works"][0];
    assert_eq!(work["id"], format!("{id}.1"));
    assert_eq!(
        (&work["sender"], &work["recipients"][0]),
        (&"a@example.com".into(), &"busy@example.org".into())
    );
    assert_eq!((&work["attempts"], &work["reason"]), (&1.into(), &"deferred".into()));
    assert_eq!(work["last_reply"], "450 4.2.1 come back later");
    let text = node.command(&["mail", "queue", "--all"]).done();
    assert!(text.contains(&format!("{id}.1")) && text.contains("busy@example.org"), "{text}");

    assert_eq!(node.command(&["mail", "queue", "example.net"]).done(), "Nothing waits for example.net.\n");
    assert_eq!(node.json(&["mail", "queue", "example.net"]), serde_json::json!({ "destinations": [] }));
    let idle = setup().start();
    assert_eq!(idle.command(&["mail", "queue"]).done(), "The queue is empty.\n");
}

#[test]
fn a_message_has_a_story() {
    let (node, _peer, id) = with_three_fates();
    let story = node.json(&["mail", "show", &id]);
    let fates: Vec<(&str, &str)> = list(&story["recipients"])
        .map(|fate| (fate["address"].as_str().unwrap(), fate["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        fates,
        [
            ("taken@example.net", "delivered"),
            ("gone@example.net", "failed"),
            ("busy@example.org", "deferred")
        ]
    );
    assert_eq!(
        (story["records"].as_array().unwrap().len(), story["waiting"].as_array().unwrap().len()),
        (6, 1)
    );
    assert!(list(&story["records"]).all(|record| record["node"] == "mx1" && record["message"] == *id));

    let text = node.command(&["mail", "show", &format!("{id}.1")]).done();
    assert!(text.starts_with(&format!("message {id} from a@example.com, ")), "{text}");
    for part in [
        "RECIPIENT          STATE      ATTEMPTS  LAST REPLY\n",
        "taken@example.net  delivered         1  250 2.0.0 taken\n",
        "gone@example.net   failed            1  550 5.1.1 nobody of this name\n",
        "busy@example.org   deferred          1  450 4.2.1 come back later\n",
        "; next try ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let nobody = "0".repeat(32);
    let none = node.command(&["mail", "show", &nobody]);
    failed(
        &none,
        1,
        &format!("there is no message {nobody}"),
        "`posthouse mail log` lists the latest messages",
    );
    let wrong = node.command(&["mail", "show", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("an id is 32 hexadecimal digits"), "{}", wrong.stderr);
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("it is a list").iter()
}

#[test]
fn the_log_can_be_asked_by_who_when_and_what() {
    let (node, _peer, id) = with_three_fates();
    let asked = |flags: &[&str]| {
        let printed = node.command(&[&["mail", "log", "--json"], flags].concat()).done();
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let what = |flags: &[&str]| -> Vec<String> {
        asked(flags).iter().map(|record| record["what"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(what(&["--recipient", "gone@example.net"]), ["accepted", "failed"]);
    assert_eq!(what(&["--recipient", "*@example.org"]), ["accepted", "deferred"]);
    assert_eq!(what(&["--sender", ""]), ["accepted", "delivered"]);
    assert_eq!(asked(&["--what", "failed"])[0]["reply"], "550 5.1.1 nobody of this name");
    assert_eq!(asked(&["--limit", "3"]).len(), 3);
    assert_eq!((asked(&["--node", "mx1"]).len(), asked(&["--node", "mx2"]).len()), (8, 0));
    assert_eq!((asked(&["--since", "1h"]).len(), asked(&["--until", "1h"]).len()), (8, 0));
    let text = node.command(&["mail", "log", "--recipient", "taken@example.net"]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("TIME (UTC)           WHAT       NODE  MESSAGE"), "{text}");
    assert!(lines[1].contains("  accepted   mx1   ") && lines[1].contains(" bytes by control "), "{text}");
    assert!(lines[2].contains(&id) && lines[2].ends_with("; 250 2.0.0 taken"), "{text}");
    let nothing = node.command(&["mail", "log", "--recipient", "nobody@example.net"]).done();
    assert_eq!(nothing, "No record matches.\n");
    let wrong = node.command(&["mail", "log", "--since", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("neither an age, such as 1h or 2d, nor a time"), "{}", wrong.stderr);
}

#[test]
fn a_message_is_sent_from_standard_input_from_a_file_and_from_words() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    let text = "Subject: Gr\u{fc}\u{df}e\n\n.\n.one\nend";
    let sent =
        node.command_with(&["mail", "send", "--from", "", "--to", "in@example.net"], text.as_bytes()).done();
    let id = &sent[..32];
    let follow = format!("{id} is queued for 1 recipient; follow it with `posthouse mail show {id}`\n");
    assert_eq!(sent, follow);
    let file = node.setup().folder().join("message.eml");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let sent =
        ["mail", "send", "--from", "a@example.com", "--to", "1@example.net", "--to", "2@example.net", path];
    let sent = node.command(&sent).done();
    assert!(sent.contains(" is queued for 2 recipients; "), "{sent}");
    send(&node, "words@example.net", "in a few words");
    let mut taken = peer.wait_for(3);
    taken.sort_by_key(|taken| taken.recipients.clone());
    let crlf = text.replace('\n', "\r\n") + "\r\n";
    assert_eq!(
        (below_trace(&taken[0].text), below_trace(&taken[1].text)),
        (crlf.as_bytes(), crlf.as_bytes())
    );
    assert_eq!(
        (&taken[0].recipients[..], &*taken[1].sender),
        (&["1@example.net", "2@example.net"].map(String::from)[..], "")
    );
    let words = &taken[2].text;
    assert_eq!((field(words, "Subject"), field(words, "From")), (Some("Hi"), Some("<a@example.com>")));
    assert!(words.ends_with(b"\r\n\r\nin a few words\r\n"));
}

#[test]
fn what_cannot_be_sent_is_refused_whole_and_says_why() {
    let peer = Peer::willing();
    let setup = Setup::new(PROGRAM)
        .file("[spool]\nsegment = \"4MiB\"\n[limits]\nmessage = \"64KiB\"\nrecipients = 2\n");
    let node = setup.flag("--route", format!("example.net={}", peer.address())).start();
    let refused = |envelope: &[&str], body: &str, error: &str, hint: &str| {
        let ran = node.command_with(&[&["mail", "send", "--from"], envelope].concat(), body.as_bytes());
        failed(&ran, 1, error, hint);
    };
    let (from, good) = ("a@example.com", "b@example.net");
    let no_domain = "\"nobody\" is not an address: an address needs an @ and a domain";
    refused(&[from, "--to", good, "--to", "nobody"], "hello", no_domain, "");
    refused(&["nobody", "--to", good], "hello", no_domain, "");
    refused(
        &[from, "--to", good, "--to", "c@example.net", "--to", "d@example.net"],
        "hello",
        "452 4.5.3 too many recipients: send the rest in another message",
        "",
    );
    let large = "x".repeat(70).repeat(1000);
    let hint = "limits.message is the size up to which messages are taken";
    refused(&[from, "--to", good], &large, "the message is larger than this node takes", hint);
    refused(&[from, "--to", good], "a\0b", "550 5.6.0 message has a NUL byte", "");

    let empty = node.command(&["mail", "send", "--from", from, "--to", good]);
    let hint = "give a FILE, pipe a message in, or write one with --subject and --body";
    failed(&empty, 2, "the message is empty", hint);
    let missing = node.command(&["mail", "send", "--from", from, "--to", good, "nowhere.eml"]);
    failed(&missing, 1, "cannot read nowhere.eml: No such file or directory (os error 2)", "");
    let nobody = node.command(&["mail", "send", "--from", from]);
    assert_eq!(nobody.code, Some(2));
    let status = node.json(&["status"]);
    assert_eq!((&status["accepted"], &status["queued"], peer.connections()), (&0.into(), &0.into(), 0));
}

#[test]
fn without_a_node_every_command_says_so_and_how_to_start_one() {
    let setup = setup();
    let data = setup.data_dir();
    let data = data.display();
    for command in [
        "status",
        "status --json",
        "mail queue",
        "mail log",
        "mail show 0195b3c4d5e67f808182838485868788",
        "mail send --from a@example.com --to b@example.net --body hello",
    ] {
        let mut program = Command::new(PROGRAM);
        let ran = tools::run(program.args(command.split(' ')).arg("--data-dir").arg(setup.data_dir()), b"");
        failed(
            &ran,
            1,
            &format!("no node is running on {data}"),
            &format!(
                "start one with `posthouse up --data-dir {data}`, or name the data directory of the one that runs with \
                 --data-dir"
            ),
        );
    }
}
