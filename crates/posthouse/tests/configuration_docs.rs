//! The page on configuration: it names every key, and its example is one.

use std::{collections::BTreeSet, path::Path};

use posthouse::config::{Config, KEYS};

const PAGE: &str = include_str!("../../../docs/CONFIGURATION.md");

#[test]
fn the_page_names_every_key_and_no_other() {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: BTreeSet<&str> = rows.map(|(key, _)| key).collect();
    // The table that two keys stand in has a row of its own, for its flag.
    let known: BTreeSet<&str> =
        KEYS.iter().copied().chain(["delivery.route", "delivery.destination"]).collect();
    assert_eq!(named, known);
}

#[test]
fn the_example_of_the_page_can_be_used() {
    let (_, rest) = PAGE.split_once("```toml\n").expect("the page has an example");
    let (example, _) = rest.split_once("```").expect("the example has an end");
    let config = Config::parse(Path::new("posthouse.toml"), example).unwrap();
    assert_eq!(config.delivery.route.len(), 2);
}
