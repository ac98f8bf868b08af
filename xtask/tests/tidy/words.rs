//! Words that the house does not use.

use crate::{
    code::words,
    tree::{Fault, File},
};

/// What not to say, and what to say instead.
const FORBIDDEN: [(&str, &str); 16] = [
    ("blacklist", "suppression"),
    ("whitelist", "the networks or domains that are let in"),
    ("ndr", "DSN"),
    ("hard bounce", "bounce"),
    ("soft bounce", "deferral"),
    ("dead letter", "set aside"),
    ("dead lettered", "set aside"),
    ("vmta", "egress source or pool"),
    ("master/slave", "manager and worker"),
    ("slave", "worker"),
    ("emails", "messages"),
    ("e-mail", "message"),
    ("e-mails", "messages"),
    ("zombie job", "lost"),
    ("zombie run", "lost"),
    ("job definition", "job"),
];

/// Files that must name the words in order to forbid them.
const MAY_NAME_THEM: [&str; 3] = ["docs/GLOSSARY.md", "docs/STYLE.md", "xtask/tests/tidy/words.rs"];

/// The home of the person in examples, who is nobody.
const EXAMPLE_HOME: &str = "/home/anna";

/// How paths of a person's machine begin.
const MACHINE_PATHS: [&str; 4] = ["/home/", "/root/", "/Users/", "/work/"];

pub(crate) fn forbidden(file: &File) -> Vec<Fault> {
    if MAY_NAME_THEM.contains(&&*file.path) {
        return Vec::new();
    }
    let text = file.text.to_ascii_lowercase();
    let mut faults = Vec::new();
    for (word, instead) in FORBIDDEN {
        for at in words(&text, word) {
            faults.push(
                file.fault_at(at, format!("not \"{word}\": the house says {instead} (docs/GLOSSARY.md)")),
            );
        }
    }
    faults
}

pub(crate) fn machine_paths(file: &File) -> Vec<Fault> {
    if file.path == "xtask/tests/tidy/words.rs" {
        return Vec::new();
    }
    let found = MACHINE_PATHS.into_iter().flat_map(|start| file.text.match_indices(start));
    // Inside a longer path, such as `docs/home/`, it is not the start.
    let is_start = |at: usize| {
        let before = file.text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-/}".contains(c))
    };
    found
        .filter(|(at, _)| is_start(*at) && !file.text[*at..].starts_with(EXAMPLE_HOME))
        .map(|(at, start)| file.fault_at(at, format!("`{start}…` is a path of one machine: name none")))
        .collect()
}

#[test]
fn a_forbidden_word_is_found_as_a_word_of_its_own() {
    let file = |text: &str| File { path: "docs/A.md".into(), text: text.into() };
    assert_eq!(forbidden(&file("Put it on the Blacklist.")).len(), 1);
    assert!(forbidden(&file("A calendrndr and x-dead-letter-exchange")).is_empty());
}

#[test]
fn a_path_of_a_machine_is_found_and_a_part_of_another_path_is_not() {
    let file = |text: &str| File { path: "docs/A.md".into(), text: text.into() };
    assert_eq!(machine_paths(&file("see /home/otto/posthouse")).len(), 1);
    assert!(machine_paths(&file("see docs/home/page, target/work/x and /home/anna/x")).is_empty());
}
