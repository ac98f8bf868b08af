//! Crates: what they may import, and what they take from the workspace.

use toml::{Table, Value};

use crate::tree::{Fault, File};

/// Which of our crates each crate may import: only what lies below it, so that words do not leak upwards.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("base", &[]),
    ("smtp", &["base"]),
    ("store", &["base"]),
    ("queue", &["base", "store"]),
    ("cluster", &["base", "store", "queue"]),
    ("mail", &["base", "smtp", "store", "queue", "cluster"]),
    ("jobs", &["base", "smtp", "store", "queue", "cluster"]),
    ("console", &["base", "smtp", "store", "queue", "cluster", "mail", "jobs"]),
    ("posthouse", &["base", "smtp", "store", "queue", "cluster", "mail", "jobs", "console"]),
    ("testkit", &["base", "smtp", "store", "queue", "cluster", "mail", "jobs", "console"]),
    ("xtask", &[]),
];

/// Every table of dependencies, and whether it is for tests alone.
const TABLES: [(&str, Use); 3] =
    [("dependencies", Use::Always), ("build-dependencies", Use::Always), ("dev-dependencies", Use::InTests)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Always,
    InTests,
}

pub(crate) fn own_lints_or_versions(file: &File) -> Vec<Fault> {
    let Some((manifest, own)) = parse(file) else { return Vec::new() };
    let is_inherited = |value: &Value| value.get("workspace") == Some(&Value::Boolean(true));
    let mut faults = Vec::new();
    if !manifest.get("lints").is_some_and(is_inherited) {
        faults.push(file.fault(1, "add `[lints]` with `workspace = true`"));
    }
    for (name, value) in dependencies(&manifest).map(|(_, name, value)| (name, value)) {
        // A crate that names itself does so to turn features on for its tests.
        if !is_inherited(value) && *name != own {
            faults.push(fault_at(
                file,
                name,
                format!("write `{name}.workspace = true`: versions live in the root"),
            ));
        }
    }
    faults
}

pub(crate) fn imports_upwards(file: &File) -> Vec<Fault> {
    let Some((manifest, name)) = parse(file) else { return Vec::new() };
    let Some((_, may)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else {
        return vec![file.fault(1, format!("say in xtask/tests/tidy/crates.rs what `{name}` may import"))];
    };
    let ours = |import: &str| MAY_IMPORT.iter().any(|(known, _)| *known == import);
    let allowed = |(used, import): (Use, &str)| match import {
        "testkit" => used == Use::InTests,
        import if import == name => used == Use::InTests,
        import => !ours(import) || may.contains(&import),
    };
    dependencies(&manifest)
        .filter(|(used, import, _)| !allowed((*used, import.as_str())))
        .map(|(_, import, _)| {
            fault_at(file, import, format!("`{name}` must not import `{import}` (docs/OVERVIEW.md)"))
        })
        .collect()
}

/// The manifest and name of a crate; nothing for that of the workspace.
fn parse(file: &File) -> Option<(Table, String)> {
    let manifest: Table = file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    Some((manifest, name))
}

fn dependencies(manifest: &Table) -> impl Iterator<Item = (Use, &String, &Value)> {
    TABLES.iter().flat_map(move |(table, used)| {
        let entries = manifest.get(*table).and_then(Value::as_table).into_iter().flatten();
        entries.map(move |(name, value)| (*used, name, value))
    })
}

fn fault_at(file: &File, dependency: &str, what: String) -> Fault {
    let line = file.text.lines().position(|line| line.starts_with(dependency)).unwrap_or(0);
    file.fault(line + 1, what)
}

#[test]
fn an_import_upwards_and_a_version_of_its_own_are_found() {
    let file = |text: &str| File { path: "crates/queue/Cargo.toml".into(), text: text.into() };
    let good = "[package]\nname = \"queue\"\n[lints]\nworkspace = true\n[dependencies]\nstore.workspace = true\n\
                [dev-dependencies]\ntestkit.workspace = true\n";
    assert!(imports_upwards(&file(good)).is_empty() && own_lints_or_versions(&file(good)).is_empty());
    let upwards =
        "[package]\nname = \"queue\"\n[dependencies]\nmail.workspace = true\ntestkit.workspace = true\n";
    assert_eq!(imports_upwards(&file(upwards)).len(), 2);
    let own = "[package]\nname = \"queue\"\n[dependencies]\nbytes = \"1\"\n";
    assert_eq!(own_lints_or_versions(&file(own)).len(), 2);
}
