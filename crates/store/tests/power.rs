//! The message log when the power fails: what was made durable is there, and what else is there is a beginning of what was written.
//!
//! SQLite appends commits to its write-ahead log and syncs it when the log is made durable, and around a checkpoint; of all that it wrote
//! since, a loss of power keeps some sectors and others not (<https://sqlite.org/wal.html>, <https://sqlite.org/atomiccommit.html>). So a
//! loss is put together here of the files as they were at the last sync, and as they are now, sector by sector.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use base::{MessageId, Timestamp, WorkId};
use rusqlite::Connection;
use store::records::{Conclusion, Duplicate, Outcome, Position, Reader, Record, Records, What};
use tempfile::TempDir;

/// So many times the power fails, each with another seed.
const SEEDS: u64 = 60;
/// What a disk writes or does not write as one, in bytes.
const SECTOR: usize = 512;
const SPOOL: u128 = 77;
const FILE: &str = "records.db";

/// The files of a log, as they are at one moment.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let database = [FILE.to_owned(), format!("{FILE}-wal")];
    let found =
        database.into_iter().filter_map(|name| Some((name.clone(), fs::read(folder.join(name)).ok()?)));
    found.collect()
}

/// What is left of the files: what was synced, and of what was written since some sectors.
fn after_power_loss(synced: &Files, now: &Files, random: &mut fastrand::Rng) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, now) in now {
        let before = synced.get(name).map_or(&[][..], Vec::as_slice);
        // The length of a file is written apart from what stands in it.
        let len =
            if random.bool() { now.len() } else { random.usize(before.len().min(now.len())..=now.len()) };
        let mut left = vec![0; len];
        for (number, sector) in left.chunks_mut(SECTOR).enumerate() {
            let source = if random.bool() { now.as_slice() } else { before };
            let start = (number * SECTOR).min(source.len());
            let some = sector.len().min(source.len() - start);
            sector[..some].copy_from_slice(&source[start..start + some]);
        }
        fs::write(folder.path().join(name), left).expect("there is room");
    }
    folder
}

fn message(sequence: u64) -> MessageId {
    MessageId::from_bytes((u128::from(sequence) << 64 | 7).to_be_bytes())
}

fn record(sequence: u64) -> Record<&'static str> {
    Record {
        work: WorkId { message: message(sequence), index: 0 },
        recipient: 0,
        at: Timestamp::from_millis(1_795_000_000_000 + sequence),
        node: "mx1",
        what: What::Conclusion(Conclusion {
            epoch: 1,
            outcome: Outcome::Delivered,
            reason: "dot",
            remote_host: "mx.example.net",
            remote_address: "198.51.100.7:25",
            reply: "250 2.0.0 Ok",
            attempt: 1,
            delay: Duration::from_millis(3),
            duplicate: Duplicate::No,
        }),
    }
}

/// Writes the next records as one batch.
fn write(records: &mut Records, from: u64, many: u64) -> u64 {
    let batch: Vec<Record<&str>> = (from + 1..=from + many).map(record).collect();
    let last = from + many;
    records.write(&batch, Position { spool: SPOOL, sequence: last }).expect("there is room");
    last
}

/// Opens what a loss of power has left: it holds what was durable, and of the rest a beginning, as its position says.
fn holds(folder: &Path, (durable, written): (u64, u64), seed: u64) -> u64 {
    let mut records = Records::open(folder.join(FILE)).expect("SQLite rolls back what is torn");
    let position = records.position().expect("it can be read").map_or(0, |position| position.sequence);
    assert!((durable..=written).contains(&position), "seed {seed}: {position} of {durable} to {written}");
    let reader = Reader::open(folder.join(FILE)).expect("it can be read");
    for sequence in 1..=written {
        let found = reader.message(message(sequence)).expect("it can be read").len();
        assert_eq!(
            found,
            usize::from(sequence <= position),
            "seed {seed}: record {sequence} at position {position}"
        );
    }
    // Told again from there, nothing is missing and nothing is there twice.
    let batch: Vec<Record<&str>> = (durable + 1..=written).map(record).collect();
    records.write(&batch, Position { spool: SPOOL, sequence: written }).expect("there is room");
    assert_eq!(reader.counts().expect("it can be read").ends(), written, "seed {seed}");
    position
}

#[test]
fn what_was_made_durable_survives_and_the_rest_is_a_beginning_of_what_was_written() {
    let mut rolled_back = 0;
    for seed in 0..SEEDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = TempDir::new().expect("a temporary folder");
        let mut records = Records::open(place.path().join(FILE)).expect("the log opens");
        if random.bool() {
            // After that a sync of the write-ahead log is enough.
            records.make_durable().expect("there is room");
        }
        let mut written = 0;
        for _ in 0..random.u64(1..6) {
            written = write(&mut records, written, random.u64(1..30));
        }
        records.make_durable().expect("there is room");
        let (synced, durable) = (files(place.path()), written);
        for _ in 0..random.u64(1..6) {
            written = write(&mut records, written, random.u64(1..30));
            let left = after_power_loss(&synced, &files(place.path()), &mut random);
            let position = holds(left.path(), (durable, written), seed);
            rolled_back += u64::from(position < written);
        }
    }
    assert!(rolled_back > SEEDS, "only {rolled_back} losses of power took anything away");
}

#[test]
fn a_power_loss_within_a_checkpoint_takes_nothing_away() {
    for seed in 0..SEEDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = TempDir::new().expect("a temporary folder");
        let path = place.path().join(FILE);
        let mut records = Records::open(&path).expect("the log opens");
        // After that a sync of the write-ahead log is enough.
        records.make_durable().expect("there is room");
        let written = write(&mut records, 0, random.u64(100..400));
        records.make_durable().expect("there is room");
        let before = files(place.path());
        let other = Connection::open(&path).expect("it opens");
        other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("it is checkpointed");
        // Before the database is synced, the write-ahead log is as it was.
        let mut within = files(place.path());
        within.insert(format!("{FILE}-wal"), before[&format!("{FILE}-wal")].clone());
        assert!(within[FILE] != before[FILE], "it has written to the database");
        let left = after_power_loss(&before, &within, &mut random);
        assert_eq!(holds(left.path(), (written, written), seed), written);
        // Then what follows begins the write-ahead log anew.
        let synced = files(place.path());
        let more = write(&mut records, written, 20);
        let left = after_power_loss(&synced, &files(place.path()), &mut random);
        holds(left.path(), (written, more), seed);
    }
}

#[test]
fn a_log_that_was_not_made_durable_would_be_caught() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = TempDir::new().expect("a temporary folder");
        let mut records = Records::open(place.path().join(FILE)).expect("the log opens");
        records.make_durable().expect("there is room");
        let synced = files(place.path());
        let written = write(&mut records, 0, 20);
        let left = after_power_loss(&synced, &files(place.path()), &mut random);
        let records = Records::open(left.path().join(FILE)).expect("SQLite rolls back what is torn");
        lost += u64::from(records.position().expect("it can be read").map_or(0, |p| p.sequence) < written);
    }
    assert!(lost > SEEDS / 2, "only {lost} of {SEEDS} losses of power took what was not durable");
}
