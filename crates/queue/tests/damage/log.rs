//! A message log that is stuck: neither mail nor the disk waits for it, and what it missed is told later, up to a bound.

use std::{collections::BTreeSet, time::Duration};

use base::{MessageId, WorkId};
use queue::{Conclusion, Feed, Position, Room, Told, conformance, files::SimulatedDisk, spool::Options};

use crate::bench::{Bench, SEGMENT, message, now, options, try_open_with, work_of};

/// So many segments are kept for the log here.
const KEPT: usize = 4;
/// So many, where nothing is to be lost even though each crash makes things be told twice.
const AMPLE: usize = 12;

fn bench(disk: SimulatedDisk, kept: usize) -> Bench {
    let options = Options { kept_for_log: (kept * SEGMENT) as u64, ..options() };
    try_open_with(disk, options).expect("the spool opens")
}

/// What the log knows: each thing once, however often it is told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Log {
    position: Position,
    accepted: BTreeSet<MessageId>,
    concluded: BTreeSet<WorkId>,
    cancelled: BTreeSet<WorkId>,
}

impl Log {
    /// Takes everything there is to be told from where it stands, and confirms it.
    fn catch_up(&mut self, bench: &Bench) {
        let feed = self.read(bench, usize::MAX);
        feed.confirm(self.position);
    }

    /// Takes about so many things from where it stands.
    fn read(&mut self, bench: &Bench, mut most: usize) -> Feed {
        let mut feed = bench.queue.feed(self.position).expect("it is this spool's");
        loop {
            let (tales, position) = feed.next(1, 20, Duration::ZERO).expect("it can be read");
            self.position = position;
            most = most.saturating_sub(tales.len());
            let is_over = tales.is_empty() || most == 0;
            for tale in tales {
                match tale.told {
                    Told::Published { message, header, .. } => {
                        assert!(header.starts_with(message.to_string().as_bytes()));
                        self.accepted.insert(message);
                    }
                    Told::Concluded { work, record, .. } => {
                        assert!(record.starts_with(work.message.to_string().as_bytes()));
                        self.concluded.insert(work);
                    }
                    Told::Cancelled { work, remaining, .. } => {
                        assert_eq!(remaining.count(), 1);
                        self.cancelled.insert(work);
                    }
                }
            }
            if is_over {
                return feed;
            }
        }
    }
}

/// What happened, as the log should come to know it.
#[derive(Default)]
struct Story(Log);

impl Story {
    /// Messages come and end, each concluded with a record of so many bytes, or cancelled.
    async fn go_on(&mut self, bench: &Bench, messages: usize, record: usize) {
        for n in 0..messages {
            let id = bench.publish(100, 7000).await;
            self.0.accepted.insert(id);
            if n % 4 == 3 {
                bench.queue.cancel(vec![work_of(id)], now()).await.expect("it is cancelled");
                self.0.cancelled.insert(work_of(id));
                continue;
            }
            let arrivals = bench.arrivals();
            let arrival = arrivals.iter().find(|arrival| arrival.work.message == id).expect("it waits");
            let leased = bench.lease(arrival).await.expect("nobody holds it");
            let record = format!("{id}{}", "r".repeat(record)).into();
            leased.lease.conclude(Conclusion { record, ..conformance::done() }).expect("it is taken");
            self.0.concluded.insert(arrival.work);
        }
        bench.queue.settled().await.expect("the disk works");
    }
}

fn missing(story: &Story, log: &Log) -> usize {
    story.0.accepted.difference(&log.accepted).count()
        + story.0.concluded.difference(&log.concluded).count()
        + story.0.cancelled.difference(&log.cancelled).count()
}

/// The open one, those kept, and what is carried.
async fn few_segments(bench: &Bench, kept: usize) {
    bench.until("segments are freed all the same", |bench| bench.queue.stats().segments <= kept + 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_stuck_is_told_all_that_it_missed() {
    let bench = bench(SimulatedDisk::default(), KEPT);
    let (mut story, mut log) = (Story::default(), Log::default());
    story.go_on(&bench, 20, 10).await;
    log.catch_up(&bench);
    let before = bench.queue.stats();
    story.go_on(&bench, 150, 10).await;
    few_segments(&bench, KEPT).await;
    assert!(bench.queue.stats().untold > 150 && before.lost == 0);
    log.catch_up(&bench);
    assert_eq!((missing(&story, &log), bench.queue.stats().lost), (0, 0));
    assert_eq!(log, Log { position: log.position, ..story.0.clone() }, "nothing is made up");
    bench
        .until("nothing is kept any more", |bench| {
            log.clone().catch_up(bench);
            bench.queue.stats().segments == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_forward_is_told_after_any_crash() {
    let (mut story, mut log) = (Story::default(), Log::default());
    let mut bench = bench(SimulatedDisk::default(), AMPLE);
    for seed in 0..12 {
        story.go_on(&bench, 30, 10).await;
        // The log knows some of it, and may have lost what it was not sure of.
        let sure = log.clone();
        let feed = log.read(&bench, 100);
        if seed % 3 == 0 {
            log = sure;
        } else {
            feed.confirm(log.position);
        }
        drop(feed);
        assert_eq!(bench.queue.stats().lost, 0, "in round {seed}");
        let disk = match seed % 2 {
            0 => bench.disk.after_kill(),
            _ => bench.disk.after_power_loss(&mut fastrand::Rng::with_seed(seed)),
        };
        bench = self::bench(disk, AMPLE);
        few_segments(&bench, AMPLE).await;
    }
    log.catch_up(&bench);
    assert_eq!((missing(&story, &log), bench.queue.stats().lost), (0, 0));
    assert!(bench.spool.damage().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_the_oldest_is_given_up_and_counted() {
    let bench = bench(SimulatedDisk::default(), KEPT);
    let (mut story, mut log) = (Story::default(), Log::default());
    story.go_on(&bench, 200, 3000).await;
    let newest = bench.publish(100, 7000).await;
    few_segments(&bench, KEPT).await;
    // Whatever is given up on this disk has been counted by now.
    let disk = bench.disk.after_kill();
    let lost = bench.queue.stats().lost;
    assert!(lost > 0, "three times as much as may be kept");
    // What is in memory could still be told.
    let bench = self::bench(disk, KEPT);
    few_segments(&bench, KEPT).await;
    log.catch_up(&bench);
    // It may have given up more until the log came to it.
    let lost = lost + bench.queue.stats().lost;
    let missing = missing(&story, &log) as u64;
    assert!(missing > 0 && missing <= lost, "{missing} missing, {lost} given up");
    assert!(log.accepted.contains(&newest), "the newest are kept");
    // Afterwards it is as if nothing had been.
    story.go_on(&bench, 20, 10).await;
    log.catch_up(&bench);
    assert_eq!(self::missing(&story, &log) as u64, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_empties_by_itself_also_while_the_log_is_stuck() {
    let bench = bench(SimulatedDisk::default(), KEPT);
    let mut log = Log::default();
    bench.until("segments are ready", |bench| bench.queue.stats().free_segments > 2).await;
    bench.disk.limit_to(8 * SEGMENT as u64);
    let mut ids = BTreeSet::new();
    while let Ok(stored) = publish(&bench).await {
        ids.insert(stored);
    }
    bench.until("it is seen", |bench| bench.queue.room() == Room::Full).await;
    for arrival in bench.arrivals() {
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        let record = format!("{}{}", arrival.work.message, "r".repeat(500)).into();
        leased.lease.conclude(Conclusion { record, ..conformance::done() }).expect("it is taken");
    }
    bench.queue.settled().await.expect("the reserve has room for it");
    bench.until("mail is taken again", |bench| bench.queue.room() == Room::Enough).await;
    ids.insert(bench.publish(100, 7000).await);
    log.catch_up(&bench);
    assert_eq!((log.accepted, bench.queue.stats().lost), (ids, 0));
}

async fn publish(bench: &Bench) -> Result<MessageId, queue::QueueError> {
    let message = message(100, 7000);
    let id = message.message;
    bench.queue.publish(vec![message]).await.map(|_| id)
}
