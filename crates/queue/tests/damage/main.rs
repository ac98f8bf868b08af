//! Damaged, foreign and failing disks: the spool opens or refuses with one line, never panics, loses nothing that is whole,
//! and says what is damaged.

mod backup;
mod bench;
mod bodies;
mod foreign;
mod full;
mod log;
mod outage;
mod power;
mod unreadable;

use std::collections::BTreeSet;

use base::MessageId;
use proptest::{collection::vec, prelude::*};
use queue::{QueueError, Status, files::SimulatedDisk};
use tokio::runtime::Runtime;

use self::bench::{Bench, SEGMENT, bytes_of, filled, find, message, open, segments, try_open, work_of};

/// Where frames begin in a segment, as its format says.
const DATA_START: usize = 8192;

/// What happens to the bytes of a segment.
#[derive(Clone, Debug)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Zero { at: usize, len: usize },
    Garbage { at: usize, len: usize, seed: u64 },
    Swap { one: usize, two: usize },
    Truncate { at: usize },
    Extend { len: usize, seed: u64 },
}

fn harm() -> impl Strategy<Value = (usize, Harm)> {
    let at = 0..SEGMENT;
    let harm = prop_oneof![
        4 => (at.clone(), 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        2 => (at.clone(), 1..9000usize).prop_map(|(at, len)| Harm::Zero { at, len }),
        2 => (at.clone(), 1..3000usize, any::<u64>()).prop_map(|(at, len, seed)| Harm::Garbage { at, len, seed }),
        1 => (0..SEGMENT / 512, 0..SEGMENT / 512).prop_map(|(one, two)| Harm::Swap { one, two }),
        1 => at.prop_map(|at| Harm::Truncate { at }),
        1 => (1..5000usize, any::<u64>()).prop_map(|(len, seed)| Harm::Extend { len, seed }),
    ];
    (0..100usize, harm)
}

impl Harm {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let end = |at: usize, len: usize| (at + len).min(bytes.len());
        match *self {
            Self::Flip { at, bit } if at < bytes.len() => bytes[at] ^= 1 << bit,
            Self::Zero { at, len } if at < bytes.len() => {
                let end = end(at, len);
                bytes[at..end].fill(0);
            }
            Self::Garbage { at, len, seed } if at < bytes.len() => {
                let end = end(at, len);
                fastrand::Rng::with_seed(seed).fill(&mut bytes[at..end]);
            }
            Self::Swap { one, two } if one.max(two) * 512 + 512 <= bytes.len() => {
                for byte in 0..512 {
                    bytes.swap(one * 512 + byte, two * 512 + byte);
                }
            }
            Self::Truncate { at } => bytes.truncate(at),
            Self::Extend { len, seed } => {
                let start = bytes.len();
                bytes.resize(start + len, 0);
                fastrand::Rng::with_seed(seed).fill(&mut bytes[start..]);
            }
            _ => {}
        }
    }
}

thread_local! {
    static BASE: (Runtime, SimulatedDisk, Vec<MessageId>, Vec<MessageId>) = {
        let runtime = Runtime::new().expect("threads can be started");
        let (disk, waiting, ended) = runtime.block_on(filled());
        (runtime, disk, waiting, ended)
    };
}

/// Runs a test on a copy of a filled spool's disk.
fn on_filled(test: impl AsyncFnOnce(SimulatedDisk, &[MessageId], &[MessageId])) {
    BASE.with(|(runtime, disk, waiting, ended)| runtime.block_on(test(disk.after_kill(), waiting, ended)));
}

/// What is whole, what is set aside or missing, and what ended and is there again.
fn sort_out(bench: &Bench, waiting: &[MessageId], ended: &[MessageId]) -> (usize, usize, usize) {
    let statuses = bench.statuses();
    let known: BTreeSet<MessageId> = waiting.iter().chain(ended).copied().collect();
    assert!(statuses.keys().all(|id| known.contains(id)), "something was made up");
    let whole = |id: &&MessageId| statuses.get(id) == Some(&Status::Waiting);
    let whole = waiting.iter().filter(whole).count();
    (whole, waiting.len() - whole, ended.iter().filter(|id| statuses.contains_key(id)).count())
}

fn one_line(error: &QueueError) {
    let text = error.to_string();
    assert!(matches!(error, QueueError::Refused(_)), "{text}");
    assert!(!text.contains('\n') && text.contains("/spool/segments/"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_bytes_the_spool_opens_and_goes_on_or_refuses(harms in vec(harm(), 1..6)) {
        on_filled(async |disk, waiting, ended| {
            let files = segments(&disk);
            for (which, harm) in &harms {
                disk.tamper(&files[which % files.len()], |bytes| harm.apply(bytes));
            }
            let bench = match try_open(disk) {
                Ok(bench) => bench,
                Err(error) => return one_line(&error),
            };
            bench.look_at_all().await;
            sort_out(&bench, waiting, ended);
            let fresh = bench.publish(100, 100).await;
            let bench = open(bench.disk.after_kill());
            assert_eq!(bench.statuses().get(&fresh), Some(&Status::Waiting));
        });
    }

    #[test]
    fn one_damaged_place_harms_one_message_and_is_reported(which in 0..100usize, at in 0..SEGMENT, bit in 0..8u8) {
        on_filled(async |disk, waiting, ended| {
            let files = segments(&disk);
            disk.tamper(&files[which % files.len()], |bytes| bytes[at] ^= 1 << bit);
            let bench = open(disk);
            bench.look_at_all().await;
            let (_, harmed, returned) = sort_out(&bench, waiting, ended);
            assert!(harmed + returned <= 1, "{harmed} are missing or set aside, {returned} are there again");
            assert!(harmed + returned == 0 || !bench.spool.damage().is_empty(), "it is reported");
        });
    }
}

#[test]
fn a_cut_off_segment_keeps_what_is_before_the_cut() {
    on_filled(async |disk, waiting, ended| {
        let files = segments(&disk);
        let mut before = waiting.len() + 1;
        for at in (DATA_START..SEGMENT).rev().step_by(4001) {
            let disk = disk.after_kill();
            disk.tamper(&files[0], |bytes| bytes.truncate(at));
            let bench = open(disk);
            bench.look_at_all().await;
            let (whole, harmed, _) = sort_out(&bench, waiting, ended);
            assert!(whole <= before && (harmed == 0 || !bench.spool.damage().is_empty()));
            before = whole;
        }
    });
}

#[test]
fn one_damaged_header_is_healed_and_two_are_reported() {
    on_filled(async |disk, waiting, ended| {
        for path in segments(&disk) {
            for copy in [0, 4096] {
                let disk = disk.after_kill();
                disk.tamper(&path, |bytes| bytes[copy..copy + 512].fill(0));
                let bench = open(disk);
                assert!(bench.spool.damage().is_empty());
                assert_eq!(sort_out(&bench, waiting, ended), (waiting.len(), 0, 0));
            }
            let disk = disk.after_kill();
            disk.tamper(&path, |bytes| bytes[20] ^= 1);
            disk.tamper(&path, |bytes| bytes[4096 + 20] ^= 1);
            let bench = open(disk);
            let damage = bench.spool.damage();
            assert!(damage[0].what.contains("both headers"), "{damage:?}");
        }
    });
}

#[test]
fn a_damaged_footer_or_trailer_costs_time_and_nothing_else() {
    on_filled(async |disk, waiting, ended| {
        for path in segments(&disk) {
            for from_end in [1, 20, 47, 49, 60, 200] {
                let disk = disk.after_kill();
                disk.tamper(&path, |bytes| {
                    let at = bytes.len() - from_end;
                    bytes[at] ^= 4;
                });
                let bench = open(disk);
                assert!(bench.spool.damage().is_empty());
                assert_eq!(sort_out(&bench, waiting, ended), (waiting.len(), 0, 0));
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_in_silence() {
    let bench = open(SimulatedDisk::default());
    let first = bench.publish(50, 50).await;
    let second = message(50, 5000);
    let id = second.message;
    bench.queue.publish(vec![second]).await.expect("it is published");
    let disk = bench.disk.after_kill();
    // As if the power had failed before the second was synced.
    let (path, at) = find(&disk, &bench::body_of(id, 5000)[..64]);
    disk.tamper(&path, |bytes| bytes[at + 3000..at + 4000].fill(0));
    let bench = open(disk);
    assert!(bench.spool.damage().is_empty());
    assert_eq!(bench.statuses().into_keys().collect::<Vec<_>>(), [first]);
    // And it stays cut, also when the segments that began after the cut are long gone.
    let third = bench.publish(50, 50).await;
    let bench = open(bench.disk.after_kill());
    assert_eq!(bench.statuses().into_keys().collect::<Vec<_>>(), [first, third]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_within_a_body_never_count() {
    let bench = open(SimulatedDisk::default());
    let gone = bench.publish(10, 10).await;
    let (path, _) = find(&bench.disk, gone.to_string().as_bytes());
    let whole = bytes_of(&bench.disk, &path);
    // One body holds a segment that is then ended, another what stands before it in its own segment.
    let stale = message(0, 0);
    let stale_id = stale.message;
    let frames = whole[DATA_START..DATA_START + 4000].to_vec();
    bench
        .queue
        .publish(vec![queue::Publication { body: queue::Body::Memory(frames.clone().into()), ..stale }])
        .await
        .expect("it is published");
    bench.queue.cancel(vec![work_of(gone)], bench::now()).await.expect("it is cancelled");
    let bench = open(bench.close().await);
    let later = message(0, 0);
    let later_id = later.message;
    bench
        .queue
        .publish(vec![queue::Publication { body: queue::Body::Memory(frames.into()), ..later }])
        .await
        .expect("it is published");
    bench.publish(10, 10).await;
    let disk = bench.close().await;
    for header in [stale_id, later_id] {
        let (path, at) = find(&disk, header.to_string().as_bytes());
        // The operations stand before the words; harming them makes the scan walk into the body.
        disk.tamper(&path, |bytes| bytes[at - 20] ^= 1);
        // No footer either.
        disk.tamper(&path, |bytes| bytes[SEGMENT - 1] ^= 1);
    }
    let bench = open(disk);
    let statuses = bench.statuses();
    assert!(!statuses.contains_key(&gone), "it has ended");
    assert!(!statuses.contains_key(&stale_id) && !statuses.contains_key(&later_id), "these were harmed");
    assert_eq!(statuses.len(), 1);
    assert!(bench.spool.damage().len() >= 2, "{:?}", bench.spool.damage());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_goes_on_behind_what_cannot_be_read() {
    let bench = open(SimulatedDisk::default());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.publish(10, 10).await);
    }
    let disk = bench.close().await;
    let (path, at) = find(&disk, ids[2].to_string().as_bytes());
    disk.tamper(&path, |bytes| bytes[at - 20] ^= 1);
    let bench = open(disk);
    let mut feed = bench.queue.feed(queue::Position::default()).expect("it is this spool's");
    let mut told = Vec::new();
    for _ in 0..5 {
        let (tales, _) = feed.next(1, 2, std::time::Duration::ZERO).expect("it can be read");
        told.extend(tales.into_iter().filter_map(|tale| match tale.told {
            queue::Told::Published { message, .. } => Some(message),
            _ => None,
        }));
    }
    ids.remove(2);
    assert_eq!(told, ids);
}
