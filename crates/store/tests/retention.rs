//! Forgetting: what is too old or too much goes, message by message, and nothing else.

use std::{fs, path::PathBuf, time::Duration};

use base::{MessageId, Timestamp, WorkId};
use rusqlite::Connection;
use store::records::{
    Because, Conclusion, Duplicate, Filter, Forgotten, Outcome, Position, Reader, Reception, Record, Records,
    Retention, Source, What,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);

struct Log {
    folder: TempDir,
    records: Records,
}

impl Log {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let records = Records::open(folder.path().join("log.sqlite")).expect("the log opens");
        Self { folder, records }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log.sqlite")
    }

    fn write(&mut self, batch: &[Record<&str>]) {
        self.records.write(batch, Position { spool: 1, sequence: 1 }).expect("the log is written");
    }

    fn reader(&self) -> Reader {
        Reader::open(self.path()).expect("the log opens")
    }

    /// How many records of a message there are.
    fn count(&self, message: MessageId) -> usize {
        self.reader().message(message).expect("the log is read").len()
    }

    /// Forgets all there is to forget, a few at a time.
    fn forget(&mut self, retention: Retention, now: Timestamp) -> u64 {
        let mut gone = 0;
        loop {
            let Forgotten { records, looked_at, .. } =
                self.records.forget(retention, now, 7).expect("the log is written");
            gone += records;
            if looked_at == 0 {
                return gone;
            }
        }
    }
}

fn day(day: u32) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000) + DAY * day
}

fn accepted(message: MessageId, at: Timestamp) -> Record<&'static str> {
    let what = What::Reception(Reception {
        sender: "a@example.com",
        recipient: "b@example.net",
        size: 4711,
        source: Source::Smtp,
        client: "192.0.2.1:40000",
        helo: "client.example",
        protocol: "ESMTP",
    });
    Record { work: WorkId { message, index: 0 }, recipient: 0, at, node: "mx1", what }
}

fn concluded(message: MessageId, at: Timestamp, outcome: Outcome) -> Record<&'static str> {
    let what = What::Conclusion(Conclusion {
        epoch: at.micros(),
        outcome,
        reason: "taken",
        remote_host: "mx.example.net",
        remote_address: "198.51.100.7:25",
        reply: "250 2.0.0 Ok",
        attempt: 1,
        delay: DAY,
        duplicate: Duplicate::No,
    });
    Record { work: WorkId { message, index: 0 }, recipient: 0, at, node: "mx1", what }
}

#[test]
fn the_records_of_a_message_go_together_once_the_last_of_them_is_old() {
    let mut log = Log::new();
    let messages: Vec<MessageId> = (0..20).map(|n| MessageId::generate(day(n))).collect();
    for (n, message) in (0..).zip(&messages) {
        let mut batch = vec![accepted(*message, day(n)), concluded(*message, day(n), Outcome::Delivered)];
        if n == 3 {
            // This one is deferred for four days.
            batch = vec![batch[0].clone(), concluded(*message, day(n), Outcome::Deferred { until: day(7) })];
        }
        if n == 7 {
            batch.push(concluded(messages[3], day(7), Outcome::Delivered));
        }
        log.write(&batch);
    }
    let keep = Retention { keep: Some(DAY * 10), max_bytes: None };
    assert_eq!(log.forget(keep, day(15)), 8);
    assert_eq!(messages[..6].iter().map(|m| log.count(*m)).collect::<Vec<_>>(), [0, 0, 0, 3, 0, 2]);
    let story = log.reader().message(messages[3]).unwrap();
    assert!(story.iter().all(|entry| entry.recipient == "b@example.net"), "{story:?}");
    // Again, after a restart as well, there is nothing to forget until time has passed.
    assert_eq!(log.forget(keep, day(15)), 0);
    log.records = Records::open(log.path()).unwrap();
    assert_eq!(log.forget(keep, day(15)), 0);
    assert_eq!(log.forget(keep, day(18)), 9);
    assert_eq!((log.count(messages[3]), log.count(messages[7]), log.count(messages[8])), (0, 0, 2));
    assert_eq!(log.forget(Retention::default(), day(9999)), 0);
}

#[test]
fn the_oldest_go_while_all_take_too_much_room_and_the_room_is_given_back() {
    let mut log = Log::new();
    let ids: Vec<MessageId> = (0..30_000).map(|_| MessageId::generate(day(0))).collect();
    for some in ids.chunks(1000) {
        let batch: Vec<_> = some
            .iter()
            .flat_map(|id| [accepted(*id, day(0)), concluded(*id, day(0), Outcome::Delivered)])
            .collect();
        log.write(&batch);
    }
    let bound = 4 << 20;
    let retention = Retention { keep: Some(DAY), max_bytes: Some(bound) };
    let mut steps = 0;
    loop {
        let step = log.records.forget(retention, day(0), 2000).unwrap();
        if step.looked_at == 0 {
            break;
        }
        assert_eq!((step.records, step.looked_at, step.because), (2000, 2000, Because::Large));
        steps += 1;
    }
    assert!(steps > 3, "{steps}");
    let left = log.reader().search(&Filter { limit: 100_000, ..Filter::default() }).unwrap();
    assert_eq!(left.len(), 60_000 - 2000 * steps);
    assert_eq!(left[0].record.work.message, ids[29_999]);
    assert_eq!(left.last().unwrap().record.work.message, ids[1000 * steps]);

    let path = log.path();
    let size = || fs::metadata(&path).unwrap().len();
    let mut before = u64::MAX;
    while size() < before {
        before = size();
        log.records.give_back().unwrap();
        Connection::open(log.path())
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
    }
    assert!(size() < 2 * bound, "{} bytes for at most {bound}", size());
}
