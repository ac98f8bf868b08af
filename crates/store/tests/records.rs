//! The message log: what is written is found, once, whatever happens in between.

use std::{fs, path::PathBuf, time::Duration};

use base::{MessageId, Timestamp, WorkId};
use rusqlite::Connection;
use store::records::{
    Conclusion, Duplicate, Error, Filter, Happened, Kind, Outcome, Position, Reader, Reception, Record,
    Records, Refusal, SCHEMA_VERSION, Source, What,
};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("records.db")
    }

    fn open(&self) -> Records {
        Records::open(self.file()).expect("the log opens")
    }

    fn reader(&self) -> Reader {
        Reader::open(self.file()).expect("the log opens")
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + second * 1000)
}

fn position(sequence: u64) -> Position {
    Position { spool: u128::MAX - 7, sequence }
}

fn reception<'a>(
    id: MessageId,
    recipient: u16,
    sender: &'a str,
    to: &'a str,
    when: Timestamp,
) -> Record<&'a str> {
    Record {
        work: WorkId { message: id, index: 1 },
        recipient,
        at: when,
        node: "mx1",
        what: What::Reception(Reception {
            sender,
            recipient: to,
            size: 4711,
            source: Source::Smtp,
            client: "192.0.2.1:40000",
            helo: "client.example",
            protocol: "ESMTP",
        }),
    }
}

fn conclusion(
    id: MessageId,
    recipient: u16,
    epoch: i64,
    when: Timestamp,
    outcome: Outcome,
) -> Record<&'static str> {
    Record {
        work: WorkId { message: id, index: 1 },
        recipient,
        at: when,
        node: "mx2",
        what: What::Conclusion(Conclusion {
            epoch,
            outcome,
            reason: "reply",
            remote_host: "mx.example.net",
            remote_address: "198.51.100.7:25",
            reply: "250 2.0.0 Ok",
            attempt: 2,
            delay: Duration::from_micros(1_234_567),
            duplicate: Duplicate::Possible,
        }),
    }
}

fn message(second: u64) -> MessageId {
    MessageId::generate(at(second))
}

#[test]
fn what_was_refused_at_the_door_is_told_with_all_that_was_written() {
    let place = Place::new();
    let refusal = Refusal {
        sender: "a@example.org",
        recipient: "b@elsewhere.example",
        client: "192.0.2.1:40000",
        helo: "client.example",
        reply: "550 5.7.1 no",
    };
    let work = WorkId { message: message(3), index: 0 };
    let record = Record { work, recipient: 0, at: at(3), node: "mx2", what: What::Refusal(refusal.clone()) };
    place.open().write(&[record], position(1)).unwrap();
    let filter = Filter { happened: Some(Happened::Refused), ..Filter::default() };
    let found = place.reader().search(&filter).unwrap();
    let [entry] = &found[..] else { panic!("{found:?}") };
    assert_eq!((entry.sender.as_str(), entry.recipient.as_str()), (refusal.sender, refusal.recipient));
    let What::Refusal(read) = &entry.record.what else { panic!("{entry:?}") };
    assert_eq!(
        (read.client.as_str(), read.helo.as_str(), read.reply.as_str()),
        (refusal.client, refusal.helo, refusal.reply)
    );
    assert_eq!(entry.record.node, "mx2");
    let of = |node: &str| {
        place.reader().search(&Filter { node: Some(node.into()), ..Filter::default() }).unwrap().len()
    };
    assert_eq!((of("MX2"), of("mx")), (1, 0));
    assert_eq!(place.reader().counts().unwrap().ends(), 0);
}

#[test]
fn a_message_is_told_in_the_order_of_time_with_all_that_was_written() {
    let place = Place::new();
    let id = message(0);
    let batch = [
        reception(id, 0, "a@example.com", "b@example.net", at(0)),
        conclusion(id, 0, 9, at(90), Outcome::Delivered),
        conclusion(id, 0, -8, at(2), Outcome::Deferred { until: at(60) }),
        reception(message(0), 0, "", "other@example.net", at(1)),
    ];
    place.open().write(&batch, position(1)).unwrap();

    let story = place.reader().message(id).unwrap();
    assert_eq!(
        story.iter().map(|e| e.record.kind()).collect::<Vec<_>>(),
        [Kind::Reception, Kind::Attempt, Kind::End]
    );
    assert!(story.iter().all(|e| e.sender == "a@example.com" && e.recipient == "b@example.net"));
    for (entry, written) in story.iter().zip([&batch[0], &batch[2], &batch[1]]) {
        let read = &entry.record;
        assert_eq!((read.work, read.recipient), (written.work, written.recipient));
        assert_eq!((read.at, read.node.as_str()), (written.at, written.node));
        assert_eq!(format!("{:?}", read.what), format!("{:?}", written.what));
    }
}

#[test]
fn writing_a_batch_again_changes_nothing_but_the_position() {
    let place = Place::new();
    let mut records = place.open();
    let id = message(0);
    let batch: Vec<_> = (0..25)
        .flat_map(|n| {
            [
                reception(id, n, "a@example.com", "b@example.net", at(0)),
                conclusion(id, n, 5, at(1), Outcome::Deferred { until: at(9) }),
                conclusion(id, n, 5, at(2), Outcome::Delivered),
                conclusion(id, n, 6, at(2), Outcome::Lost),
            ]
        })
        .collect();
    records.write(&batch[..37], position(1)).unwrap();
    records.write(&batch, position(2)).unwrap();
    records.write(&batch, position(3)).unwrap();
    drop(records);

    assert_eq!(place.open().position().unwrap(), Some(position(3)));
    let counts = place.reader().counts().unwrap();
    assert_eq!(
        [Happened::Accepted, Happened::Deferred, Happened::Delivered, Happened::Lost].map(|h| counts.of(h)),
        [25; 4]
    );
    assert_eq!((counts.ends(), counts.of(Happened::Failed)), (50, 0));
}

#[test]
fn rows_and_position_are_written_together_or_not_at_all() {
    let place = Place::new();
    let mut records = place.open();
    assert_eq!(records.position().unwrap(), None);
    let id = message(0);
    records.write(&[reception(id, 0, "a@b.example", "c@d.example", at(0))], position(1)).unwrap();

    // The position cannot be written: the rows and names of the batch must not stay either.
    let other = Connection::open(place.file()).unwrap();
    other
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON position BEGIN SELECT raise(ABORT, 'no'); END")
        .unwrap();
    let batch = [conclusion(id, 0, 1, at(1), Outcome::Delivered)];
    assert!(matches!(records.write(&batch, position(2)), Err(Error::Sql { .. })));
    assert_eq!(records.position().unwrap(), Some(position(1)));
    assert_eq!(place.reader().message(id).unwrap().len(), 1);

    // And it can be written once the cause is gone, with the names that were rolled back.
    other.execute_batch("DROP TRIGGER no").unwrap();
    records.write(&batch, position(2)).unwrap();
    assert_eq!(records.position().unwrap(), Some(position(2)));
    assert_eq!(place.reader().message(id).unwrap()[1].record.node, "mx2");
}

#[test]
fn what_a_killed_process_had_not_committed_is_not_there() {
    let place = Place::new();
    let id = message(0);
    let mut records = place.open();
    records.write(&[reception(id, 0, "a@b.example", "c@d.example", at(0))], position(1)).unwrap();
    records.make_durable().unwrap();
    // A copy of the files in the middle of a transaction is what a kill leaves.
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM record; DELETE FROM position").unwrap();
    let after = Place::new();
    for end in ["", "-wal"] {
        let name = format!("records.db{end}");
        fs::copy(place.folder.path().join(&name), after.folder.path().join(&name)).unwrap();
    }
    assert_eq!(after.open().position().unwrap(), Some(position(1)));
    assert_eq!(after.reader().message(id).unwrap().len(), 1);
}

#[test]
fn a_reader_sees_whole_batches_while_the_writer_writes() {
    let place = Place::new();
    let mut records = place.open();
    let reader = place.reader();
    let writer = std::thread::spawn(move || {
        for n in 0..200 {
            let id = message(n);
            let batch = [
                reception(id, 0, "a@b.example", "c@d.example", at(n)),
                conclusion(id, 0, 1, at(n), Outcome::Delivered),
            ];
            records.write(&batch, position(n)).unwrap();
            if n % 50 == 0 {
                records.make_durable().unwrap();
            }
        }
    });
    loop {
        let finished = writer.is_finished();
        let counts = reader.counts().unwrap();
        assert_eq!(counts.of(Happened::Accepted), counts.of(Happened::Delivered));
        if finished {
            assert_eq!(counts.ends(), 200);
            break;
        }
    }
    writer.join().unwrap();
}

#[test]
fn a_search_finds_by_address_time_and_outcome_the_newest_first() {
    let place = Place::new();
    let mut records = place.open();
    for n in 0..50 {
        let id = message(n * 600);
        let sender = if n == 7 { "" } else { "Anna@Example.com" };
        let to = format!("user{}@example{}.net", n, n % 5);
        let batch = [
            reception(id, 0, sender, &to, at(n * 600)),
            conclusion(
                id,
                0,
                1,
                at(n * 600 + 1),
                if n % 2 == 0 { Outcome::Delivered } else { Outcome::Failed },
            ),
        ];
        records.write(&batch, position(n)).unwrap();
    }
    let reader = place.reader();
    let find = |filter: Filter| {
        let found = reader.search(&filter).unwrap();
        found.into_iter().map(|e| (e.record.happened(), e.recipient)).collect::<Vec<_>>()
    };
    let all = Filter { limit: 1000, ..Filter::default() };

    assert_eq!(find(all.clone()).len(), 100);
    assert_eq!(
        find(Filter { limit: 1, ..all.clone() }),
        [(Happened::Failed, "user49@example4.net".to_owned())]
    );
    let one = find(Filter { recipient: Some("USER8@example3.net".into()), ..all.clone() });
    assert_eq!(one.iter().map(|f| f.0).collect::<Vec<_>>(), [Happened::Delivered, Happened::Accepted]);
    let domain =
        Filter { recipient: Some("*@example3.net".into()), happened: Some(Happened::Failed), ..all.clone() };
    assert_eq!(find(domain).len(), 5);
    assert_eq!(find(Filter { sender: Some(String::new()), ..all.clone() }).len(), 2);
    assert_eq!(find(Filter { recipient: Some("user?@example[0-9].net".into()), ..all.clone() }), []);
    let hours = Filter { since: Some(at(20 * 600)), until: Some(at(30 * 600)), ..all.clone() };
    assert_eq!(find(hours).len(), 20);
    assert_eq!(find(Filter { since: Some(at(1_000_000)), ..all }), []);
}

#[test]
fn a_newer_log_is_refused_and_left_as_it_is() {
    let place = Place::new();
    drop(place.open());
    let other = Connection::open(place.file()).unwrap();
    other.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    for error in [Records::open(place.file()).unwrap_err(), Reader::open(place.file()).unwrap_err()] {
        assert!(matches!(error, Error::Newer { found, .. } if found == SCHEMA_VERSION + 1), "{error}");
        assert!(error.to_string().contains("run the newer Posthouse again"), "{error}");
    }
}

#[test]
fn a_file_of_others_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let garbage = b"This is no database, whatever its name says. ".repeat(100);
    fs::write(place.file(), &garbage).unwrap();
    let error = Records::open(place.file()).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(!error.to_string().contains('\n'));
    assert_eq!(fs::read(place.file()).unwrap(), garbage);

    let place = Place::new();
    Connection::open(place.file()).unwrap().execute_batch("CREATE TABLE record (theirs)").unwrap();
    assert!(matches!(Records::open(place.file()), Err(Error::Foreign { .. })));
}

#[test]
fn a_damaged_log_says_what_to_do() {
    let place = Place::new();
    let mut records = place.open();
    let batch: Vec<_> =
        (0..2000).map(|n| reception(message(n), 0, "a@b.example", "c@d.example", at(n))).collect();
    records.write(&batch, position(1)).unwrap();
    drop(records);
    let mut bytes = fs::read(place.file()).unwrap();
    bytes[8192..].fill(0xa5);
    fs::write(place.file(), bytes).unwrap();
    let error = match Records::open(place.file()) {
        Err(error) => error,
        Ok(mut records) => records.write(&batch, position(2)).unwrap_err(),
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("mail is not touched"), "{error}");
}
