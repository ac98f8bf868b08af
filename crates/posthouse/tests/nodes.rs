//! The nodes of a cluster by command: who is let in, what is wanted of them, and how they are shown.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    Node, Setup,
    tools::{Ran, run},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

fn setup() -> Setup {
    Setup::new(PROGRAM).file("[spool]\nsegment = \"4MiB\"\n")
}

fn manager() -> Node {
    setup().flag("--role", "manager").flag("--link", "127.0.0.1:0").start()
}

/// The public key of a new node.
fn key() -> String {
    let folder = TempDir::new().expect("there is a temporary folder");
    let dir = folder.path().join("data");
    identity(&dir, &["--key"]).done().trim().to_owned()
}

fn identity(dir: &std::path::Path, arguments: &[&str]) -> Ran {
    run(Command::new(PROGRAM).args(["identity", "show"]).args(arguments).arg("--data-dir").arg(dir), b"")
}

/// Lets a new node in.
fn add(node: &Node, name: &str) {
    assert_eq!(text(&node.json(&["nodes", "add-key", &key(), "--name", name]), "name"), name);
}

/// The command failed with this code; it said one line that is wrong, and then what to do, unless that is nothing.
fn failed(ran: &Ran, code: i32, error: &str, hint: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
    let mut lines = vec![format!("error: {error}")];
    lines.extend((!hint.is_empty()).then(|| format!("hint: {hint}")));
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), lines);
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {value}"))
}

#[test]
fn a_node_is_let_in_once_and_under_one_name() {
    let node = manager();
    let empty = node.command(&["nodes", "list"]).done();
    assert!(
        empty.starts_with("NAME  ROLE     STATE   HEARD  WORKS  VERSION  DOORS\nmx1   manager  active"),
        "{empty}"
    );
    assert!(
        empty.contains(&node.smtp().to_string()) && empty.contains("posthouse nodes add-key KEY"),
        "{empty}"
    );

    let (one, other) = (key(), key());
    let said = node.command(&["nodes", "add-key", &one, "--name", "mx2"]).done();
    assert!(said.starts_with("mx2 (SHA256:") && said.ends_with(") is let in from now on.\n"), "{said}");
    let list = node.command(&["nodes", "list"]).done();
    assert_eq!(list.lines().count(), 3, "{list}");
    let row: Vec<&str> = list.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row, ["mx2", "worker", "never", "seen", "-", "0", "-", "-"]);

    failed(
        &node.command(&["nodes", "add-key", &one, "--name", "mx3"]),
        1,
        "this key is registered already, as mx2",
        "to give it another name, `posthouse nodes remove mx2` first",
    );
    let taken = node.command(&["nodes", "add-key", &other, "--name", "MX2"]);
    assert!(
        taken.stderr.starts_with("error: the name mx2 is taken by the node with the key SHA256:"),
        "{taken:?}"
    );
    failed(
        &node.command(&["nodes", "add-key", &other, "--name", "mx1"]),
        1,
        "mx1 is the manager's own name",
        "choose another name for the node",
    );
    failed(
        &node.command(&[
            "nodes",
            "add-key",
            identity(&node.setup().data_dir(), &["--key"]).done().trim(),
            "--name",
            "mx3",
        ]),
        1,
        "this is the manager's own key",
        "run `posthouse identity show --key` on the machine of the worker, and give what it prints",
    );
    for wrong in ["ssh-rsa AAAAB3NzaC1yc2E= anna", &one[..60], "SHA256:abc", "mx2"] {
        let ran = node.command(&["nodes", "add-key", wrong, "--name", "mx3"]);
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.stderr);
        assert!(ran.stderr.contains("`posthouse identity show`"), "{wrong}: {}", ran.stderr);
    }

    // As words without quotes, and from another command.
    let words: Vec<&str> = other.split(' ').collect();
    let unquoted = [&["nodes", "add-key", "--name", "mx3"], &words[..]].concat();
    assert_eq!(text(&node.json(&unquoted), "name"), "mx3");
    let piped = node.command_with(&["nodes", "add-key", "-", "--name", "mx4"], key().as_bytes());
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    let report = node.json(&["nodes", "list"]);
    let names: Vec<&str> =
        report["nodes"].as_array().unwrap().iter().map(|node| text(node, "name")).collect();
    assert_eq!((names, text(&report["manager"], "name")), (vec!["mx2", "mx3", "mx4"], "mx1"));
}

#[test]
fn a_manager_does_not_start_under_the_name_of_one_of_its_nodes() {
    let mut node = manager();
    add(&node, "mx2");
    node.stop();
    let ports = ["--link", "--smtp", "--console"].into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]);
    let mut up = Command::new(PROGRAM);
    up.args(["up", "--role", "manager", "--name", "MX2"]).args(ports);
    failed(
        &run(up.arg("--data-dir").arg(node.setup().data_dir()), b""),
        1,
        "the manager cannot be called mx2: a node that is registered has this name",
        "set `name` to another; or, if that node is no more, start the manager with another `--name` and then \
         `posthouse nodes remove mx2`",
    );
    node.restart();
}

#[test]
fn what_is_wanted_of_a_node_is_shown_and_outlives_a_restart() {
    let mut node = manager();
    add(&node, "mx2");
    let state = |node: &Node| {
        let lines = node.json(&["list-cluster"]);
        text(&lines[1], "state").to_owned()
    };
    let said = node.command(&["nodes", "cordon", "MX2"]).done();
    assert_eq!(said, "mx2 is given no more works, until `posthouse nodes resume mx2`; it has 0 works now.\n");
    assert_eq!(state(&node), "cordoned, never seen");
    let said = node.command(&["nodes", "drain", "mx2", "--why", "new disk"]).done();
    assert_eq!(said, "mx2 is drained: it has nothing left, and can be stopped.\n");
    let line: Value = serde_json::from_str(&node.said("\"wish\":\"drain\"")).unwrap();
    assert_eq!((text(&line, "node"), text(&line, "why")), ("mx2", "new disk"));
    node.stop();
    node.restart();
    let list = node.command(&["nodes", "list"]).done();
    assert!(list.contains("  drained, never seen: new disk  "), "{list}");
    assert_eq!(state(&node), "drained, never seen");
    let shown = node.command(&["nodes", "show", "mx2"]).done();
    let why = "\nwhy          new disk\n";
    for part in
        ["\nstate        drained, never seen\n", why, "\nconnected    never\n", "\nlink         none\n"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    let again = node.json(&["nodes", "drain", "mx2", "--no-wait"]);
    assert_eq!((text(&again, "wanted"), text(&again, "why")), ("draining", "new disk"), "the reason is kept");
    let other = node.json(&["nodes", "cordon", "mx2", "--why", "new kernel"]);
    assert_eq!((text(&other, "wanted"), text(&other, "why")), ("cordoned", "new kernel"));
    let said = node.command(&["nodes", "resume", "mx2"]).done();
    assert_eq!(said, "mx2 may be given works again; for now it is: never seen.\n");
    assert_eq!(state(&node), "never seen");
    let said = node.command(&["nodes", "takeover"]).done();
    assert_eq!(said, "Takeover was not frozen, so nothing has changed.\n");

    let removed = node.json(&["nodes", "remove", "mx2"]);
    assert_eq!((text(&removed, "wanted"), &removed["elsewhere_seconds"]), ("removed", &Value::Null));
    let there_is_none = "there is no node \"mx2\"; did you mean \"mx1\"?";
    let all = "`posthouse nodes list` shows all of them";
    failed(&node.command(&["nodes", "show", "mx2"]), 1, there_is_none, all);
    for action in ["cordon", "drain", "resume", "remove"] {
        failed(&node.command(&["nodes", action, "mx2"]), 1, "there is no node \"mx2\"", all);
    }
}

#[test]
fn an_unknown_name_finds_the_nearest_and_the_manager_is_no_worker() {
    let node = manager();
    add(&node, "north-2");
    let meant = "there is no node \"nort-2\"; did you mean \"north-2\"?";
    let all = "`posthouse nodes list` shows all of them";
    for command in ["show", "cordon", "drain", "resume", "remove"] {
        failed(&node.command(&["nodes", command, "nort-2"]), 1, meant, all);
    }
    let own = node.command(&["nodes", "drain", "mx1"]);
    assert!(
        own.stderr.starts_with("error: mx1 is the manager itself: `nodes drain` is for its workers\n"),
        "{own:?}"
    );
    let shown = node.json(&["nodes", "show", "mx1"]);
    assert_eq!(text(&shown, "pin"), identity(&node.setup().data_dir(), &["--pin"]).done().trim());
    let said: Value = serde_json::from_str(&node.said("the node is a manager")).unwrap();
    assert_eq!(said["pin"], shown["pin"]);
}

#[test]
fn a_manager_counts_its_nodes() {
    let node = manager();
    add(&node, "mx2");
    let metrics = node.get("/metrics");
    for line in [
        "posthouse_cluster_nodes 1",
        "posthouse_cluster_frozen 0",
        "posthouse_cluster_granted_total 0",
        "posthouse_node_brought_total{node=\"mx2\"} 0",
        "posthouse_node_up{node=\"mx2\"} 0",
        "posthouse_node_works{node=\"mx2\"} 0",
        "# TYPE posthouse_node_heard_seconds gauge",
    ] {
        assert!(metrics.lines().any(|said| said == line), "{line} is not in {metrics}");
    }
    // It was not heard, so there is nothing to say.
    assert!(!metrics.contains("posthouse_node_heard_seconds{"), "{metrics}");
}

#[test]
fn a_node_that_stands_alone_refuses_clearly() {
    let node = setup().start();
    let hint = "start it with `posthouse up --role manager` to have other nodes work for it";
    let key = key();
    for command in [
        vec!["nodes", "list"],
        vec!["nodes", "show", "mx2"],
        vec!["nodes", "add-key", &key, "--name", "mx2"],
        vec!["nodes", "drain", "mx2"],
        vec!["nodes", "takeover"],
    ] {
        failed(&node.command(&command), 1, "this node is not a manager", hint);
    }
    let lines = node.command(&["list-cluster"]).done();
    assert_eq!(lines, "NAME  ROLE        STATE   ADDRESS\nmx1   standalone  active  -\n");
    let ran = identity(&node.setup().data_dir(), &[]);
    assert!(
        ran.code == Some(0) && ran.stdout.contains("ssh-ed25519 "),
        "it may be a manager one day: {ran:?}"
    );
}

#[test]
fn an_identity_is_shown_whole_and_in_parts() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("new");
    let shown = identity(&dir, &[]).done();
    let labels: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("  ")).map(|(label, _)| label).collect();
    assert_eq!(labels, ["node id", "key", "fingerprint"], "{shown}");
    let key = identity(&dir, &["--key"]).done();
    assert!(key.starts_with("ssh-ed25519 AAAA") && key.lines().count() == 1, "{key}");
    assert!(shown.contains(key.trim()), "{shown}");
    failed(
        &identity(&dir, &["--pin"]),
        1,
        &format!("there is no pin in {}: its node has not been a manager yet", dir.display()),
        "a manager makes it at its first start, with `posthouse up --role manager`",
    );
    let parts = identity(&dir, &["--json"]).done();
    let parts: Value = serde_json::from_str(&parts).unwrap();
    assert_eq!((text(&parts, "key"), &parts["pin"]), (key.trim(), &Value::Null));
    assert!(
        shown.contains(text(&parts, "node_id")) && shown.contains(text(&parts, "fingerprint")),
        "{shown}"
    );

    std::fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let foreign = identity(folder.path(), &["--key"]);
    assert!(foreign.code == Some(1) && foreign.stderr.contains("is not a data directory"), "{foreign:?}");
}

#[test]
fn the_key_of_a_new_directory_is_that_of_the_node_that_starts_on_it() {
    let setup = setup().flag("--role", "manager").flag("--link", "127.0.0.1:0");
    let before = identity(&setup.data_dir(), &["--key"]).done();
    let node = setup.start();
    let whole = identity(&node.setup().data_dir(), &["--json"]).done();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(text(&whole, "key"), before.trim());
    assert_eq!(whole["node_id"], node.json(&["status"])["node_id"]);
    assert!(text(&whole, "pin").starts_with("sha256:"), "{whole}");
}
