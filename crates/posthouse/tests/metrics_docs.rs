//! The page on metrics: it names every one that a node of any role has, and no other, with its kind.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Program, Setup};

const PAGE: &str = include_str!("../../../docs/METRICS.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

#[test]
fn the_page_names_every_metric_with_its_kind_and_no_other() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `posthouse_"));
    let mut named = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, text] = cells[..] else { continue };
        assert!(text.len() > 10, "{name} has no text for operators");
        let twice = named.insert(name.trim_matches('`').to_owned(), kind.to_owned());
        assert_eq!(twice, None, "{name} stands in two rows");
    }
    let mut known = BTreeMap::new();
    for answer in [of_one_that_stands_alone(), of_a_manager(), of_a_worker()] {
        let kinds = kinds(&answer);
        assert!(kinds.len() > 15, "{answer}");
        for (name, kind) in kinds {
            let other = known.insert(name.clone(), kind.clone());
            assert!(other.is_none_or(|other| other == kind), "{name} is of two kinds");
        }
    }
    assert_eq!(named, known);
}

/// The metrics of an answer and their kinds.
fn kinds(answer: &str) -> BTreeMap<String, String> {
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn setup() -> Setup {
    Setup::new(PROGRAM).file("[spool]\nsegment = \"4MiB\"\n")
}

fn of_one_that_stands_alone() -> String {
    let answer = setup().start().get("/metrics");
    assert!(!answer.contains("posthouse_cluster_nodes"), "{answer}");
    answer
}

fn of_a_manager() -> String {
    setup().flag("--role", "manager").flag("--link", "127.0.0.1:0").start().get("/metrics")
}

/// A worker whose manager does not answer.
fn of_a_worker() -> String {
    let folder = TempDir::new().expect("there is a temporary folder");
    let pin = format!("sha256:{}", "0".repeat(64));
    let worker = Program::start(
        Command::new(PROGRAM)
            .args(["up", "--json", "--role", "worker", "--manager", "127.0.0.1:1", "--pin", &pin])
            .args(["--smtp", "127.0.0.1:0", "--console", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.path()),
    );
    let said: Value =
        serde_json::from_str(&worker.said("the worker is running")).expect("each line is an object");
    let console = said["console"].as_str().and_then(|text| text.parse().ok());
    get(console.expect("it says where its console is"), "/metrics")
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the console listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the console reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the console answers");
    answer
}
