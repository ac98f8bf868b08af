//! Configuration files of any text: they are taken, or refused in a line; and what is taken is the same when it is written out and read again.
//!
//! `cargo xtask fuzz` runs this for as long as one likes.

use std::path::Path;

use posthouse::config::{Config, KEYS};
use testkit::fuzz::Fuzz;

const PAGE: &str = include_str!("../../../docs/CONFIGURATION.md");

const VALUES: [&str; 31] = [
    "= ",
    "\"",
    "'",
    "\"50MiB\"",
    "\"5d\"",
    "10",
    "0",
    "-1",
    "1e9",
    "true",
    "[",
    "]",
    "[]",
    "{",
    "}",
    ",",
    "\n",
    "[[",
    "]]",
    ".",
    "#",
    "\"\"\"",
    "\\u0000",
    "\u{e9}",
    "99999999999999999999",
    "\"127.0.0.1:25\"",
    "\"[2001:db8::1]:25\"",
    "\"*\"",
    "\"192.0.2.0/33\"",
    "nan",
    "1979-05-27T07:32:00Z",
];

#[test]
fn any_file_is_taken_or_refused_in_a_line_and_what_is_taken_reads_back() {
    let example = PAGE
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the page has an example");
    let seeds = vec![
        example.as_bytes().to_vec(),
        b"limits.message = \"50MiB\"\n".to_vec(),
        b"[delivery]\nretry = [\"1m\", \"2m\"]\n".to_vec(),
    ];
    let words: Vec<&str> = VALUES.into_iter().chain(KEYS.iter().copied()).collect();
    Fuzz::new(seeds, &words, 1500).run(|input| {
        let text = String::from_utf8_lossy(input);
        match Config::parse(Path::new("posthouse.toml"), &text) {
            Ok(config) => {
                let written = toml::to_string(&config).expect("a configuration is a table");
                let back = Config::parse(Path::new("again.toml"), &written);
                assert_eq!(back.as_ref().ok(), Some(&config), "{back:?}: {written}");
                "taken".to_owned()
            }
            Err(error) => {
                let line = error.to_string();
                assert!(!line.contains(char::is_control), "{line:?}");
                line.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').take(60).collect()
            }
        }
    });
}
