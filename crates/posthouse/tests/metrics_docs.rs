//! The page on metrics: it names every one that a node has, and no other, with its kind.

use std::collections::BTreeMap;

use testkit::Setup;

const PAGE: &str = include_str!("../../../docs/METRICS.md");

#[test]
fn the_page_names_every_metric_with_its_kind_and_no_other() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `posthouse_"));
    let named: BTreeMap<&str, &str> = rows
        .filter_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, text] = cells[..] else { return None };
            assert!(text.len() > 10, "{name} has no text for operators");
            Some((name.trim_matches('`'), kind))
        })
        .collect();
    let node = Setup::new(env!("CARGO_BIN_EXE_posthouse")).file("[spool]\nsegment = \"4MiB\"\n").start();
    let answer = node.get("/metrics");
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let known: BTreeMap<&str, &str> = types.collect();
    assert!(known.len() > 15, "{known:?}");
    assert_eq!(named, known);
}
