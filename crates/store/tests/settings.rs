//! The settings: what an operator wished outlives the process, ends when it should, and is found again.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use base::Timestamp;
use rusqlite::Connection;
use store::{
    Error,
    records::Records,
    settings::{
        About, Added, MAX_NODES, MAX_PAUSES, MAX_SUPPRESSED_AT_ONCE, NewNode, NewPause, NewSuppression, Node,
        NodeState, PauseId, SCHEMA_VERSION, Settings, Suppressed,
    },
};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("settings.sqlite")
    }

    fn open(&self) -> Settings {
        Settings::open(self.file()).expect("the settings open")
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + second * 1000)
}

fn pause(about: About, until: Option<Timestamp>) -> NewPause {
    NewPause { about, until, why: "they asked us to".into(), by: "anna".into() }
}

fn suppression(address: &str, until: Option<Timestamp>) -> NewSuppression {
    NewSuppression { address: address.into(), until, why: "550 5.1.1".into() }
}

#[test]
fn a_pause_outlives_the_process_and_ends_at_its_time_or_by_hand() {
    let place = Place::new();
    let domain = About::Domain("*.example.com".parse().unwrap());
    let sender = About::Sender("news-*@example.org".parse().unwrap());
    let settings = place.open();
    let first = settings.pause(&pause(domain.clone(), Some(at(60))), at(0)).unwrap();
    let second = settings.pause(&pause(sender.clone(), None), at(1)).unwrap();
    let third = settings.pause(&pause(About::Account("192.0.2.7".into()), None), at(2)).unwrap();
    drop(settings);

    let settings = place.open();
    let known = settings.pauses(at(3)).unwrap();
    assert_eq!(known, [first, second.clone(), third.clone()]);
    assert_eq!((&known[0].about, known[0].since, known[0].until), (&domain, at(0), Some(at(60))));
    assert_eq!((known[1].why.as_str(), known[1].by.as_str()), ("they asked us to", "anna"));
    assert_eq!(settings.pauses(at(60)).unwrap(), [second.clone(), third.clone()]);
    assert_eq!(settings.resume(second.id).unwrap(), Some(second.clone()));
    assert_eq!(settings.resume(second.id).unwrap(), None);
    assert_eq!(settings.pauses(at(60)).unwrap(), [third]);
    // Numbers are not used again, or a late `resume` would end another pause.
    let all = settings.pause(&pause(About::All, None), at(61)).unwrap();
    assert_eq!(all.id, PauseId(4));
}

#[test]
fn what_is_paused_again_keeps_its_number_and_gets_the_new_end() {
    let place = Place::new();
    let settings = place.open();
    let first = settings.pause(&pause(About::All, None), at(0)).unwrap();
    let again = NewPause { why: "x".repeat(5000), ..pause(About::All, Some(at(90))) };
    let second = settings.pause(&again, at(5)).unwrap();
    assert_eq!((second.id, second.since, second.until), (first.id, at(0), Some(at(90))));
    assert_eq!(second.why.len(), 1000);
    assert_eq!(settings.pauses(at(6)).unwrap().len(), 1);
}

#[test]
fn one_pause_too_many_is_refused_and_those_that_are_over_make_room() {
    let place = Place::new();
    let settings = place.open();
    for number in 0..MAX_PAUSES {
        let about = About::Account(number.to_string());
        settings.pause(&pause(about, Some(at(10 + number / (MAX_PAUSES - 1)))), at(0)).unwrap();
    }
    let one_more = pause(About::All, None);
    let error = settings.pause(&one_more, at(1)).unwrap_err();
    assert!(error.to_string().contains("1000 pauses already"), "{error}");
    settings.pause(&pause(About::Account("7".into()), None), at(1)).unwrap();
    settings.pause(&one_more, at(10)).unwrap();
    assert_eq!(settings.pauses(at(10)).unwrap().len(), 3);
}

#[test]
fn a_suppressed_address_is_found_in_any_case_until_it_ends() {
    let place = Place::new();
    let settings = place.open();
    let three = ["Anna@Example.com", "ben@example.com", "carl@example.net"];
    assert_eq!(settings.suppressed(three, at(0)).unwrap(), []);
    let new = [suppression("Anna@Example.COM", None), suppression("carl@example.net", Some(at(60)))];
    assert_eq!(settings.suppress(&new, at(0)).unwrap(), Suppressed { new: 2, changed: 0 });
    drop(settings);

    let settings = place.open();
    assert_eq!(settings.suppression_count(), 2);
    let found = settings.suppressed(three, at(1)).unwrap();
    let places: Vec<(usize, &str)> = found.iter().map(|(n, s)| (*n, s.address.as_str())).collect();
    assert_eq!(places, [(0, "Anna@example.com"), (2, "carl@example.net")]);
    assert_eq!((found[0].1.why.as_str(), found[0].1.since), ("550 5.1.1", at(0)));
    assert_eq!(settings.suppressed(three, at(60)).unwrap().len(), 1);

    let again = [suppression("ANNA@example.com", Some(at(99))), suppression("ben@example.com", None)];
    assert_eq!(settings.suppress(&again, at(61)).unwrap(), Suppressed { new: 1, changed: 1 });
    // The one that was over is forgotten.
    assert_eq!(settings.suppression_count(), 2);
    let found = settings.suppressed(["anna@example.com"], at(62)).unwrap();
    assert_eq!((found[0].1.until, found[0].1.since), (Some(at(99)), at(0)));
    assert_eq!(settings.unsuppress(&["anna@EXAMPLE.com".into(), "nobody@example.com".into()]).unwrap(), 1);
    assert_eq!(settings.suppressed(three, at(62)).unwrap().len(), 1);
}

#[test]
fn the_list_comes_in_pages() {
    let place = Place::new();
    let settings = place.open();
    let new: Vec<NewSuppression> =
        (0..25).map(|n| suppression(&format!("A{n:02}@example.com"), None)).collect();
    settings.suppress(&new, at(0)).unwrap();
    let (mut after, mut seen) = (String::new(), Vec::new());
    for size in [10, 10, 5] {
        let page = settings.suppressions(&after, 10, at(1)).unwrap();
        assert_eq!(page.page.len(), size);
        seen.extend(page.page.into_iter().map(|suppression| suppression.address));
        assert_eq!(page.next.is_none(), size == 5);
        after = page.next.unwrap_or_default();
    }
    let all: Vec<String> = new.into_iter().map(|suppression| suppression.address).collect();
    assert_eq!(seen, all);
    let many = vec![suppression("a@example.com", None); MAX_SUPPRESSED_AT_ONCE + 1];
    let error = settings.suppress(&many, at(2)).unwrap_err();
    assert!(error.to_string().contains("give 10000 at a time"), "{error}");
    assert_eq!(settings.suppression_count(), 25);
}

fn node(name: &str, key: u8) -> NewNode {
    NewNode { name: name.into(), key: [key; 32] }
}

#[test]
fn a_node_outlives_the_process_with_its_state_and_when_it_was_seen() {
    let place = Place::new();
    let settings = place.open();
    assert_eq!(settings.add_node(&node("mx2", 2), at(0)).unwrap(), Added::Added);
    assert_eq!(settings.add_node(&node("Mx1", 1), at(1)).unwrap(), Added::Added);
    let drained = settings.set_node_state("MX1", NodeState::Draining, "new disks", at(2)).unwrap().unwrap();
    assert_eq!((drained.since, drained.added), (at(2), at(1)));
    // The same again is not a new state.
    let again = settings.set_node_state("mx1", NodeState::Draining, "new disks, tonight", at(3)).unwrap();
    assert_eq!(again.unwrap().since, at(2));
    let seen = settings.node_seen(&[1; 32], [7; 16], [8; 16], at(4)).unwrap().unwrap();
    assert_eq!(settings.node_seen(&[9; 32], [7; 16], [8; 16], at(4)).unwrap(), None);
    assert_eq!(settings.set_node_state("mx9", NodeState::Active, "", at(4)).unwrap(), None);
    drop(settings);

    let nodes = place.open().nodes().unwrap();
    let first = Node {
        key: [1; 32],
        name: "Mx1".into(),
        id: Some([7; 16]),
        state: NodeState::Draining,
        since: at(2),
        added: at(1),
        seen: Some(at(4)),
        boot: Some([8; 16]),
        why: "new disks, tonight".into(),
    };
    assert_eq!(seen, first);
    assert_eq!(nodes[0], first);
    assert_eq!((nodes[1].name.as_str(), nodes[1].state, nodes[1].seen), ("mx2", NodeState::Active, None));
    assert_eq!((nodes[1].id, nodes[1].boot, nodes.len()), (None, None, 2));
}

#[test]
fn a_key_and_a_name_are_of_one_node_until_it_is_removed() {
    let place = Place::new();
    let settings = place.open();
    settings.add_node(&node("mx1", 1), at(0)).unwrap();
    settings.add_node(&node("mx2", 2), at(0)).unwrap();
    // The key says more than the name, also where both are taken.
    for name in ["mx1", "mx2", "mx3"] {
        let known = Added::KeyKnown { name: "mx1".into() };
        assert_eq!(settings.add_node(&node(name, 1), at(1)).unwrap(), known);
    }
    let taken = Added::NameTaken { name: "mx1".into(), key: [1; 32] };
    assert_eq!(settings.add_node(&node("MX1", 3), at(1)).unwrap(), taken);

    settings.node_seen(&[1; 32], [7; 16], [8; 16], at(2)).unwrap().unwrap();
    let removed = settings.remove_node("Mx1", at(3)).unwrap().unwrap();
    assert_eq!((removed.state, removed.since), (NodeState::Removed, at(3)));
    assert_eq!(settings.remove_node("mx1", at(4)).unwrap(), None);
    assert_eq!(settings.set_node_state("mx1", NodeState::Active, "", at(4)).unwrap(), None);
    assert_eq!(settings.node_seen(&[1; 32], [7; 16], [8; 16], at(4)).unwrap(), None);
    assert_eq!(settings.nodes().unwrap()[0], removed);

    // Its name for another key, and then its key under another name.
    assert_eq!(settings.add_node(&node("MX1", 3), at(5)).unwrap(), Added::Added);
    settings.remove_node("mx1", at(6)).unwrap().unwrap();
    assert_eq!(settings.add_node(&node("mx7", 3), at(7)).unwrap(), Added::Added);
    let nodes = settings.nodes().unwrap();
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.key[0], node.state)).collect();
    assert_eq!(names, [("mx2", 2, NodeState::Active), ("mx7", 3, NodeState::Active)]);
    assert_eq!((nodes[1].added, nodes[1].seen), (at(7), None));
}

#[test]
fn one_node_too_many_is_refused_and_the_oldest_removed_are_forgotten() {
    let place = Place::new();
    drop(place.open());
    // By hand and in one transaction: to add each alone would sync it.
    let mut raw = Connection::open(place.file()).unwrap();
    let transaction = raw.transaction().unwrap();
    for number in 0..2 * MAX_NODES {
        let state = if number < MAX_NODES { 1 } else { 5 };
        let since = at(number).micros();
        transaction
            .execute(
                "INSERT INTO node (key, name, state, since, added, why) VALUES (randomblob(32), ?, ?, ?, 0, '')",
                (format!("mx{number}"), state, since),
            )
            .unwrap();
    }
    transaction.commit().unwrap();
    drop(raw);

    let settings = place.open();
    let error = settings.add_node(&node("one-more", 1), at(5000)).unwrap_err();
    assert!(error.to_string().contains("1000 nodes, which is the most"), "{error}");
    settings.remove_node("mx7", at(5000)).unwrap().unwrap();
    assert_eq!(settings.add_node(&node("one-more", 1), at(5001)).unwrap(), Added::Added);
    let nodes = settings.nodes().unwrap();
    let gone = |name: &str| !nodes.iter().any(|node| node.name == name);
    assert_eq!(nodes.len(), 2000);
    assert!(gone("mx1000") && !gone("mx1001") && !gone("mx7"));
    let error = settings.add_node(&node(&"x".repeat(65), 2), at(5002)).unwrap_err();
    assert!(error.to_string().contains("at most 64 bytes"), "{error}");
}

#[test]
fn settings_of_version_1_are_upgraded_and_keep_what_is_in_them() {
    let place = Place::new();
    let raw = Connection::open(place.file()).unwrap();
    raw.execute_batch(
        "PRAGMA journal_mode = WAL;
        CREATE TABLE pause (
            id INTEGER PRIMARY KEY AUTOINCREMENT, about INTEGER NOT NULL, pattern TEXT NOT NULL, until INTEGER,
            why TEXT NOT NULL, by TEXT NOT NULL, since INTEGER NOT NULL, UNIQUE (about, pattern)
        );
        CREATE TABLE suppression (
            key TEXT PRIMARY KEY, address TEXT NOT NULL, until INTEGER, why TEXT NOT NULL, since INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX suppression_until ON suppression (until) WHERE until IS NOT NULL;
        INSERT INTO pause VALUES (3, 3, '192.0.2.7', NULL, 'they asked us to', 'anna', 5);
        INSERT INTO suppression VALUES ('ben@example.com', 'ben@example.com', NULL, '550', 5);
        PRAGMA application_id = 0x50487365; PRAGMA user_version = 1;",
    )
    .unwrap();
    let version = || raw.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    // A copy of an older file is an older file, and good.
    let copy = place.0.path().join("copy.sqlite");
    store::settings::copy(&place.file(), &copy).unwrap();
    assert_eq!(version(), 1);
    for path in [place.file(), copy] {
        let settings = Settings::open(path).unwrap();
        assert_eq!(settings.pauses(at(0)).unwrap()[0].id, PauseId(3));
        assert_eq!(settings.suppression_count(), 1);
        assert_eq!(settings.add_node(&node("mx1", 1), at(0)).unwrap(), Added::Added);
    }
    assert_eq!(version(), SCHEMA_VERSION);
    assert_eq!(place.open().nodes().unwrap().len(), 1);
}

#[test]
fn an_upgrade_that_fails_leaves_the_file_as_it_was() {
    let place = Place::new();
    drop(place.open());
    let raw = Connection::open(place.file()).unwrap();
    // A table of the name stands in the way.
    raw.execute_batch("DROP TABLE node; CREATE TABLE node (other); PRAGMA user_version = 1").unwrap();
    assert!(matches!(Settings::open(place.file()).unwrap_err(), Error::Sql { .. }));
    assert_eq!(raw.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    raw.execute_batch("DROP TABLE node").unwrap();
    assert_eq!(place.open().nodes().unwrap(), []);
}

#[test]
fn a_copy_that_is_taken_while_it_is_open_holds_it_all_and_is_private() {
    let place = Place::new();
    let settings = place.open();
    settings.pause(&pause(About::All, None), at(0)).unwrap();
    let copy = place.0.path().join("copy.sqlite");
    store::settings::copy(&place.file(), &copy).unwrap();
    settings.pause(&pause(About::Account("late".into()), None), at(1)).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Settings::open(&copy).unwrap().pauses(at(2)).unwrap().len(), 1);
}

#[test]
fn the_file_is_private_and_the_log_is_not_taken_for_it() {
    let place = Place::new();
    let settings = place.open();
    settings.pause(&pause(About::All, Some(at(0) + Duration::from_secs(1))), at(0)).unwrap();
    for name in ["settings.sqlite", "settings.sqlite-wal"] {
        let mode = fs::metadata(place.0.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let log = place.0.path().join("message-log.sqlite");
    drop(Records::open(&log).unwrap());
    let error = Settings::open(&log).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("is not the settings of a Posthouse: move it away"), "{error}");
}
