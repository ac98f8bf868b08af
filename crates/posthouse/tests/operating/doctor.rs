//! The doctor: what is right is ok, what is wrong is named with what to do, and the exit code says which.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Dns, Peer, Setup, free_address, tools::run, until};

use super::{PROGRAM, setup};

/// Runs the doctor alone; its exit code and what it found.
fn doctor(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let ran = run(Command::new(PROGRAM).arg("doctor").args(arguments).arg("--json"), b"");
    let found = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, found)
}

/// The verdict and the line of what was found at a check, first where a line has this part.
fn at<'f>(found: &'f [Value], check: &str, part: &str) -> (&'f str, &'f str) {
    let text = |finding: &'f Value, field: &str| finding[field].as_str().unwrap_or_default();
    let mut here = found.iter().filter(|finding| finding["check"] == check);
    let finding = here.find(|finding| text(finding, "finding").contains(part));
    let finding = finding.unwrap_or_else(|| panic!("no {part:?} at {check} in {found:#?}"));
    (text(finding, "verdict"), text(finding, "finding"))
}

#[test]
fn a_worker_that_waits_for_its_manager_has_its_ports_and_does_not_listen_yet() {
    let (smtp, manager, pin) = (free_address(), free_address(), "0".repeat(64));
    let file = format!(
        "[smtp]\nlisten = [\"{smtp}\"]\n[console]\nlisten = \"127.0.0.1:0\"\n\
         [cluster]\nrole = \"worker\"\nmanager = \"{manager}\"\npin = \"sha256:{pin}\"\n"
    );
    let worker = Setup::new(PROGRAM).ports_of_the_file().file(&file).start();
    let config = worker.setup().folder().join("posthouse.toml");
    let data = worker.setup().data_dir();
    let (_, found) = doctor(&["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    let waits = format!("the worker listens on {smtp} (smtp.listen) once its manager has let it in");
    assert_eq!(at(&found, "ports", &waits).0, "warning");
    assert!(TcpStream::connect(smtp).is_err(), "nobody is let in");
    assert_eq!(at(&found, "manager", &format!("the manager cannot be reached: {manager}: ")).0, "problem");
    assert_eq!(at(&found, "manager", "the worker has no link to its manager: ").0, "problem");
}

#[test]
fn the_port_for_nodes_of_a_manager_is_looked_at_and_a_worker_is_told_that_it_is_not_let_in() {
    let (console, link) = (free_address(), free_address());
    let file = format!(
        "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[console]\nlisten = \"{console}\"\n\
         [cluster]\nrole = \"manager\"\nlisten = \"{link}\"\n"
    );
    let manager = Setup::new(PROGRAM).ports_of_the_file().file(&file).start();
    let config = manager.setup().folder().join("posthouse.toml");
    let data = manager.setup().data_dir();
    let (_, found) = doctor(&["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(at(&found, "ports", &format!("the node listens on {link} (cluster.listen)")).0, "ok");
    assert!(found.iter().all(|finding| finding["check"] != "manager"), "{found:#?}");
    let pin = manager.said_in("the node is a manager", "pin");
    let file = format!(
        "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[console]\nlisten = \"127.0.0.1:0\"\n\
         [cluster]\nrole = \"worker\"\nmanager = \"{link}\"\npin = \"{pin}\"\n"
    );
    let worker = Setup::new(PROGRAM).ports_of_the_file().file(&file).start();
    let config = worker.setup().folder().join("posthouse.toml");
    let data = worker.setup().data_dir();
    let found = until("a refusal", || {
        let (_, found) =
            doctor(&["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
        let refused = |finding: &Value| {
            finding["finding"].as_str().is_some_and(|line| line.contains("does not know this node's key"))
        };
        found.iter().any(refused).then_some(found)
    });
    assert_eq!(at(&found, "manager", &format!("somebody listens on {link} (cluster.manager)")).0, "ok");
    assert_eq!(at(&found, "manager", "the worker has no link to its manager: ").0, "problem");
}

#[test]
fn of_nodes_that_were_started_by_flags_what_counts_is_looked_at() {
    let [smtp, console, link, door] = [(); 4].map(|()| free_address());
    let by_flags = |flags: &[(&str, &str)]| {
        let setup = Setup::new(PROGRAM).ports_of_the_file();
        flags.iter().fold(setup, |setup, (flag, value)| setup.flag(flag, *value)).start()
    };
    let [at_smtp, at_console, at_link, at_door] =
        [smtp, console, link, door].map(|address| address.to_string());
    let manager = by_flags(&[
        ("--role", "manager"),
        ("--smtp", &at_smtp),
        ("--console", &at_console),
        ("--link", &at_link),
    ]);
    let data = manager.setup().data_dir();
    let (_, found) = doctor(&["--data-dir", data.to_str().unwrap()]);
    for (address, key) in [(smtp, "smtp.listen"), (console, "console.listen"), (link, "cluster.listen")] {
        assert_eq!(at(&found, "ports", &format!("the node listens on {address} ({key})")).0, "ok");
    }
    assert_eq!(at(&found, "configuration", "what the node was started with counts").0, "ok");
    assert!(found.iter().filter(|finding| finding["check"] == "ports").count() == 3, "{found:#?}");
    fs::write(manager.setup().folder().join("posthouse.toml"), "limits.sessions = 77\n").unwrap();
    let (_, found) = doctor(&["--data-dir", data.to_str().unwrap()]);
    let other = "the node runs by other values of limits.sessions";
    assert_eq!(at(&found, "configuration", other).0, "warning");

    let pin = format!("sha256:{}", "0".repeat(64));
    let worker = by_flags(&[
        ("--role", "worker"),
        ("--smtp", &at_door),
        ("--console", "127.0.0.1:0"),
        ("--manager", &at_link),
        ("--pin", &pin),
    ]);
    let data = worker.setup().data_dir();
    let (_, found) = doctor(&["--data-dir", data.to_str().unwrap()]);
    let waits = format!("the worker listens on {door} (smtp.listen) once its manager has let it in");
    assert_eq!(at(&found, "ports", &waits).0, "warning");
    assert_eq!(at(&found, "manager", &format!("somebody listens on {link} (cluster.manager)")).0, "ok");
    assert!(found.iter().all(|finding| finding["check"] != "spool"), "{found:#?}");
}

#[test]
fn a_running_node_is_well_and_its_ports_are_its_own() {
    let peer = Peer::willing();
    let (smtp, console) = (free_address(), free_address());
    let file = format!(
        "[smtp]\nlisten = [\"{smtp}\"]\n[console]\nlisten = \"{console}\"\n[spool]\nsegment = \"4MiB\"\n\
         [delivery]\nsmarthost = \"localhost:{}\"\n",
        peer.address().port()
    );
    let node = Setup::new(PROGRAM).ports_of_the_file().file(&file).start();
    let config = node.setup().folder().join("posthouse.toml");
    let data = node.setup().data_dir();
    let outbound = peer.address().to_string();
    let (_, found) = doctor(&[
        "--config",
        config.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--outbound",
        &outbound,
    ]);
    assert_eq!(at(&found, "node", "mx1 is running and ready").0, "ok");
    assert_eq!(at(&found, "ports", &format!("the node listens on {smtp} (smtp.listen)")).0, "ok");
    assert_eq!(at(&found, "ports", &format!("the node listens on {console} (console.listen)")).0, "ok");
    assert_eq!(at(&found, "permissions", "belong to its user alone").0, "ok");
    assert_eq!(at(&found, "spool", "all of 1 segments can be read").0, "ok");
    assert_eq!(at(&found, "dns", "localhost:").0, "ok");
    assert_eq!(at(&found, "outbound", &format!("{outbound} greets: 220")).0, "ok");
    let (verdict, sync) = at(&found, "disk", "a sync of 4 KiB takes ");
    assert!(verdict != "problem" && sync.contains("(p50)") && sync.contains("(p99)"), "{sync}");
    // What this machine lacks is not the node's doing.
    let of_the_machine = ["disk", "limits", "clock"];
    let problems: Vec<&Value> = found
        .iter()
        .filter(|finding| finding["verdict"] == "problem")
        .filter(|finding| !of_the_machine.contains(&finding["check"].as_str().unwrap()))
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn without_a_node_a_port_of_another_is_a_problem_and_nothing_goes_out_unasked() {
    let folder = TempDir::new().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (other.local_addr().unwrap(), free_address());
    let config = folder.path().join("posthouse.toml");
    fs::write(
        &config,
        format!("smtp.listen = [\"{taken}\"]\nconsole.listen = \"{free}\"\nrelay.from = [\"0.0.0.0/0\"]\n"),
    )
    .unwrap();
    let data = folder.path().join("data");
    let arguments = ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let (code, found) = doctor(&arguments);
    assert_eq!(code, Some(1));
    let (verdict, line) = at(&found, "ports", &taken.to_string());
    assert_eq!(verdict, "problem");
    assert!(line.contains(&format!("(process {})", std::process::id())), "{line}");
    assert_eq!(at(&found, "ports", &format!("{free} (console.listen) is free")).0, "ok");
    assert_eq!(at(&found, "configuration", "an open relay").0, "problem");
    assert_eq!(at(&found, "node", "no node runs on").0, "skipped");
    assert_eq!(at(&found, "permissions", "does not exist yet").0, "skipped");
    assert_eq!(
        (at(&found, "dns", "--domain NAME").0, at(&found, "outbound", "--domain NAME").0),
        ("skipped", "skipped")
    );
    assert!(!data.exists(), "the doctor has made a data directory");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    drop(silent);
    let (_, found) = doctor(&[&arguments[..], &["--outbound", &address.to_string()]].concat());
    assert_eq!(at(&found, "outbound", "cannot be reached").0, "problem");
    let ran = run(Command::new(PROGRAM).arg("doctor").args(arguments), b"");
    assert!(
        ran.stdout.contains("problem  ports ") && ran.stdout.contains("  → stop it, or set smtp.listen"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(" problem"), "{}", ran.stderr);
}

#[test]
fn files_that_others_may_open_and_a_broken_configuration_are_found() {
    let mut node = setup().start();
    node.stop();
    let data = node.setup().data_dir();
    fs::set_permissions(data.join("message-log.sqlite"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, found) = doctor(&["--data-dir", data.to_str().unwrap()]);
    let (verdict, line) = at(&found, "permissions", "can be opened by other users");
    assert!(verdict == "warning" && line.contains("message-log.sqlite"), "{line}");
    assert_eq!(at(&found, "spool", "all of 1 segments can be read").0, "ok");

    let config = data.join("broken.toml");
    fs::write(&config, "smtp.lisen = []\n").unwrap();
    let ran = run(Command::new(PROGRAM).args(["doctor", "--config", config.to_str().unwrap()]), b"");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("did you mean \"smtp.listen\"?"), "{}", ran.stderr);
}

#[test]
fn where_the_mail_of_a_domain_goes_is_asked_and_its_hosts_are_connected_to() {
    let folder = TempDir::new().unwrap();
    let (dns, peer) = (Dns::start(), Peer::willing());
    dns.mail("example.net", &[(10, "mx.example.net")]);
    dns.host("mx.example.net", &["127.0.0.1"]);
    let config = folder.path().join("posthouse.toml");
    let port = peer.address().port();
    fs::write(&config, format!("{}delivery.port = {port}\n", dns.setting())).unwrap();
    let data = folder.path().join("data");
    let of = |domain: &str| {
        let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
        doctor(&["--config", config, "--data-dir", data, "--domain", domain]).1
    };
    let found = of("example.net");
    let goes = format!("mail for example.net goes to mx.example.net (127.0.0.1:{port})");
    assert_eq!(at(&found, "dns", &goes).0, "ok");
    assert_eq!(at(&found, "outbound", &format!("127.0.0.1:{port} greets: 220")).0, "ok");
    let found = of("nowhere.example");
    assert_eq!(at(&found, "dns", "nowhere.example").0, "problem");
    assert_eq!(at(&found, "outbound", "nowhere.example").0, "skipped");
}
