//! What keeps a node from starting is said in one line, with what to do about it; nothing is touched.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use testkit::{Peer, Setup, until};

use super::{PROGRAM, failed, names, send, setup, unwilling};

#[test]
fn a_busy_port_is_named_with_its_key_and_the_one_who_has_it_can_be_found() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = TcpListener::bind(busy).unwrap();
    for (flag, key) in [("--smtp", "smtp.listen"), ("--console", "console.listen")] {
        // A second door for one, the only address for the other.
        let setup = if flag == "--smtp" { setup().flag(flag, busy.to_string()) } else { setup().file("") };
        let ran = if flag == "--smtp" { setup.fail() } else { with_console(&setup, &busy.to_string()) };
        failed(
            &ran,
            1,
            &format!("cannot listen on {busy} ({key}): Address already in use (os error 98)"),
            &format!(
                "another program has this port (`ss -ltnp 'sport = :{}'` shows which): stop it, or set {key} or {flag}",
                busy.port()
            ),
        );
    }
    drop(taken);
}

fn with_console(setup: &Setup, address: &str) -> testkit::tools::Ran {
    let mut command = std::process::Command::new(PROGRAM);
    command.args(["up", "--smtp", "127.0.0.1:0", "--console", address]);
    testkit::tools::run(command.arg("--data-dir").arg(setup.data_dir()), b"")
}

#[test]
fn a_second_process_on_the_same_data_is_refused_and_the_first_goes_on() {
    let peer = Peer::willing();
    let mut node = setup().to(&peer).start();
    let data = node.setup().data_dir();
    failed(
        &node.setup().fail(),
        1,
        &format!("a node is already running on {}", data.display()),
        "stop that one first, or choose another with --data-dir",
    );
    send(&node, "b@example.net", "still here");
    assert_eq!(peer.wait_for(1).len(), 1);
    // What a killed one leaves behind is no hindrance.
    node.kill();
    assert!(data.join("posthouse.sock").exists());
    node.restart();
    assert_eq!(node.json(&["status"])["ready"], true);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_refused() {
    let setup = setup();
    let data = setup.data_dir();
    fs::write(&data, "a file").unwrap();
    let hint = "choose another with --data-dir";
    failed(
        &setup.fail(),
        1,
        &format!("the data directory {} cannot be used: not a directory", data.display()),
        hint,
    );
    assert_eq!(fs::read(&data).unwrap(), b"a file");
    fs::remove_file(&data).unwrap();

    fs::create_dir(&data).unwrap();
    fs::write(data.join("thesis.tex"), "years of work").unwrap();
    let foreign = format!("{} is not a data directory of Posthouse, and it is not empty", data.display());
    failed(&setup.fail(), 1, &foreign, "choose an empty or a new one with --data-dir");
    assert_eq!(names(&data), ["thesis.tex"]);
    fs::remove_file(data.join("thesis.tex")).unwrap();

    let node = setup.start();
    assert_eq!(node.json(&["status"])["ready"], true);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line_and_the_right_form() {
    for (text, error, hint) in [
        ("[smtp]\nlisen = []\n", "2: there is no key \"smtp.lisen\"; did you mean \"smtp.listen\"?", ""),
        ("qqqqqqqq = 1\n", "1: there is no key \"qqqqqqqq\"", "docs/CONFIGURATION.md lists the keys"),
        (
            "\n[limits]\nidle = \"soon\"\n",
            "3: limits.idle: \"soon\" is not a duration: write a number and a unit, such as 30s, 5m, 4h or 5d",
            "",
        ),
        (
            "[spool]\nsegment = \"1KiB\"\n",
            "2: spool.segment: a segment of 1KiB is not possible: write a size from 4MiB to 1GiB",
            "",
        ),
    ] {
        let setup = setup().file(text);
        let path = setup.folder().join("posthouse.toml");
        failed(&setup.fail(), 3, &format!("{}:{error}", path.display()), hint);
        assert!(!setup.data_dir().exists());
    }
    let setup = setup();
    let path = setup.folder().join("posthouse.toml");
    fs::remove_file(&path).unwrap();
    let missing = format!("cannot read {}: No such file or directory (os error 2)", path.display());
    failed(&setup.fail(), 3, &missing, "");
}

#[test]
fn a_wrong_flag_is_a_usage_error_that_shows_the_right_form() {
    for (flag, value, form) in [
        ("--smtp", "25", "\"25\" has no IP address; write 127.0.0.1:25, or 0.0.0.0:25 for all addresses"),
        ("--smarthost", "mail.example.com", "\"mail.example.com\" has no port; write mail.example.com:25"),
        ("--relay-from", "10.0.0.1/8", "\"10.0.0.1/8\" is an address in a network: write 10.0.0.0/8"),
        ("--smart-host", "mail:25", "a similar argument exists: '--smarthost'"),
    ] {
        let ran = setup().flag(flag, value).fail();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(form), "{}", ran.stderr);
    }
}

#[test]
fn all_that_a_node_keeps_is_for_its_user_alone() {
    let node = setup().start();
    let data = node.setup().data_dir();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("posthouse.sock"))), (0o700, 0o600));
    let mut folders = vec![data];
    while let Some(folder) = folders.pop() {
        for path in names(&folder).iter().map(|name| folder.join(name)) {
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            folders.extend(path.is_dir().then_some(path));
        }
    }
}

#[test]
fn a_restart_keeps_the_node_its_queue_and_its_log() {
    let (peer, mood) = unwilling();
    let mut node = setup().to(&peer).flag("--retry", "1s").start();
    for number in 1..=3 {
        send(&node, &format!("b{number}@example.net"), "keep me");
    }
    until("three deferrals in the log", || {
        (node.log().iter().filter(|record| record["what"] == "deferred").count() >= 3).then_some(())
    });
    let (id, before) = (node.json(&["status"])["node_id"].clone(), node.log());
    node.stop();
    assert!(!node.setup().data_dir().join("posthouse.sock").exists());
    mood.brighten();
    node.restart();
    let status = node.json(&["status"]);
    assert_eq!((&status["node_id"], &status["accepted"]), (&id, &0.into()));
    let after = node.quiet();
    assert!(after.starts_with(&before), "{after:?}");
    let mut got: Vec<String> = peer.wait_for(3).into_iter().flat_map(|taken| taken.recipients).collect();
    got.sort();
    assert_eq!(got, ["b1@example.net", "b2@example.net", "b3@example.net"]);
}
