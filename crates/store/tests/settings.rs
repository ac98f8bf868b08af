//! The settings: what an operator wished outlives the process, ends when it should, and is found again.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use base::Timestamp;
use store::{
    Error,
    records::Records,
    settings::{
        About, MAX_PAUSES, MAX_SUPPRESSED_AT_ONCE, NewPause, NewSuppression, PauseId, Settings, Suppressed,
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
