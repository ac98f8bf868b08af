//! The story of the power: it may fail at each sync and between; what was not synced is dropped or torn, and a bit of what
//! was may flip. Nothing that was answered is lost, what has ended stays ended, and all is in the log, each thing once.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    sync::Arc,
    time::Duration,
};

use base::{Clock, MessageId};
use queue::{
    Conclusion, Position, Queue, Spool, Status, Told, conformance,
    files::{Call, Camera, Fault, Shot, SimulatedDisk, When},
    spool::Options,
};

use crate::bench::{Bench, SEGMENT, message, now, options, segments, try_open_with, work_of};

/// So many stories are told unless `POSTHOUSE_POWER_SEEDS` says otherwise.
const SEEDS: u64 = 200;
/// So much happens in one.
const STEPS: usize = 30;
/// So many moments of one are looked at.
const SHOTS: usize = 12;
/// What the last batches say stands behind every mark: whether it was torn or has flipped nobody can tell.
const UNPROVEN_SYNCS: usize = 4;

/// What happened to a message, and when it was certain.
#[derive(Debug, Default)]
struct Fate {
    stored: Option<u64>,
    concluding: Option<u64>,
    settled: Option<u64>,
}

/// What the log knew at a moment.
#[derive(Clone, Debug, Default)]
struct Log {
    moment: u64,
    position: Position,
    accepted: BTreeSet<MessageId>,
    ended: BTreeSet<MessageId>,
}

/// A row of things that happened on a watched disk.
struct Story {
    camera: Camera,
    queue: Queue,
    random: fastrand::Rng,
    fates: BTreeMap<MessageId, Fate>,
    /// What the log may have been: it may lose what it wrote after the last one that it was sure of.
    written: Vec<Log>,
    sure: Vec<usize>,
}

fn small() -> Options {
    Options { kept_for_log: 4 * SEGMENT as u64, ..options() }
}

impl Story {
    fn begin(seed: u64, disk: SimulatedDisk) -> Self {
        let camera = Camera::on(disk, seed);
        let spool: Arc<Spool> = Spool::open(camera.disk(), Path::new("/spool"), Clock::system(), small())
            .expect("the spool opens");
        Self {
            camera,
            queue: Queue::new(spool),
            random: fastrand::Rng::with_seed(seed),
            fates: BTreeMap::new(),
            written: vec![Log::default()],
            sure: vec![0],
        }
    }

    async fn go_on(&mut self) {
        match self.random.u8(..10) {
            0..4 => self.publish().await,
            4..7 => self.conclude().await,
            7 => self.settle().await,
            _ => self.read(),
        }
    }

    async fn publish(&mut self) {
        let count = self.random.usize(1..4);
        let messages: Vec<_> =
            (0..count).map(|_| message(self.random.usize(..3000), self.random.usize(..7000))).collect();
        let ids: Vec<MessageId> = messages.iter().map(|message| message.message).collect();
        self.fates.extend(ids.iter().map(|id| (*id, Fate::default())));
        let publishing: Vec<_> =
            messages.into_iter().map(|message| tokio::spawn(self.queue.publish(vec![message]))).collect();
        for (id, publishing) in ids.into_iter().zip(publishing) {
            publishing.await.expect("no panic").expect("the disk works");
            self.fates.entry(id).or_default().stored = Some(self.camera.moment());
        }
    }

    /// The next of what waits ends: delivered with a record, or cancelled.
    async fn conclude(&mut self) {
        let mut arrivals = Vec::new();
        self.queue.take_arrivals(queue::Kind::Mail, 2, &mut arrivals);
        for arrival in arrivals {
            let id = arrival.work.message;
            let moment = self.camera.moment();
            self.fates.entry(id).or_default().concluding = Some(moment);
            if self.random.u8(..4) == 0 {
                self.queue.cancel(vec![work_of(id)], now()).await.expect("the disk works");
                self.fates.entry(id).or_default().settled = Some(self.camera.moment());
                continue;
            }
            let wanted = vec![arrival.ticket];
            let leased = self.queue.lease(crate::bench::ME, wanted).await.pop();
            let record = id.to_string().into();
            let conclusion = Conclusion { record, ..conformance::done() };
            leased.expect("nobody holds it").lease.conclude(conclusion).expect("it is taken");
        }
    }

    async fn settle(&mut self) {
        let concluding =
            self.fates.values_mut().filter(|fate| fate.concluding.is_some() && fate.settled.is_none());
        let concluding: Vec<&mut Fate> = concluding.collect();
        self.queue.settled().await.expect("the disk works");
        let moment = self.camera.moment();
        concluding.into_iter().for_each(|fate| fate.settled = Some(moment));
    }

    /// The log takes some, and is sure of it at times.
    fn read(&mut self) {
        let before = self.written.last().expect("it began with one").clone();
        let (log, feed) = take_in(before, &self.queue, 3).expect("it is this spool's");
        self.written.push(Log { moment: self.camera.moment(), ..log });
        if self.random.bool() {
            self.sure.push(self.written.len() - 1);
            feed.confirm(self.written.last().expect("it was just pushed").position);
        }
    }

    /// What the log was when the power failed: no older than what it had been sure of.
    fn log_at(&self, moment: u64, random: &mut fastrand::Rng) -> Log {
        let was = |at: &&usize| self.written[**at].moment <= moment;
        let oldest = self.sure.iter().filter(was).max().copied().unwrap_or(0);
        let newest = (oldest..self.written.len()).filter(|at| was(&at)).max().unwrap_or(oldest);
        self.written[random.usize(oldest..=newest)].clone()
    }
}

/// The log takes in what comes next, so many portions of it.
fn take_in(mut log: Log, queue: &Queue, portions: usize) -> Result<(Log, queue::Feed), String> {
    let mut feed = queue.feed(log.position).map_err(|error| error.to_string())?;
    for _ in 0..portions {
        let (tales, position) = feed.next(1, 10, Duration::ZERO).expect("it can be read");
        // What tells nothing moves the position too.
        if tales.is_empty() && position == log.position {
            break;
        }
        log.position = position;
        for tale in tales {
            match tale.told {
                Told::Published { message, .. } => log.accepted.insert(message),
                Told::Concluded { work, .. } | Told::Cancelled { work, .. } => log.ended.insert(work.message),
            };
        }
    }
    Ok((log, feed))
}

/// What is wrong with what was left, if anything.
async fn judge(story: &Story, shot: Shot, random: &mut fastrand::Rng) -> Result<(), String> {
    let flips = random.u8(..4) == 0;
    let syncs = story.camera.syncs();
    let certain = if flips {
        let before = syncs.iter().rev().filter(|sync| **sync <= shot.moment).nth(UNPROVEN_SYNCS);
        before.copied().unwrap_or(0)
    } else {
        shot.moment
    };
    let log = story.log_at(shot.moment, random);
    if flips {
        flip(&shot.disk, random);
    }
    let bench = match try_open_with(shot.disk, small()) {
        Ok(bench) => bench,
        // A file that was only begun, with a bit that is none of ours: somebody has to look.
        Err(error) if flips && error.to_string().contains("not part of this spool") => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    bench.look_at_all().await;
    let (log, _feed) = take_in(log, &bench.queue, usize::MAX)?;
    let excused = usize::from(flips && !bench.spool.damage().is_empty());
    if !flips && !bench.spool.damage().is_empty() {
        return Err(format!("{:?}", bench.spool.damage()));
    }
    compare(story, &bench, &log, certain, shot.moment, excused)
}

/// Compares what is there with what was said; one message may be missing or be back where one bit was another.
fn compare(
    story: &Story,
    bench: &Bench,
    log: &Log,
    certain: u64,
    moment: u64,
    excused: usize,
) -> Result<(), String> {
    let statuses = bench.statuses();
    // By message: one that is back both has ended and is told to have.
    let mut wrong = BTreeMap::new();
    let mut untold = BTreeMap::new();
    for (id, fate) in &story.fates {
        let is = |at: Option<u64>| at.is_some_and(|at| at <= certain);
        let there = statuses.get(id);
        if is(fate.stored) {
            if fate.concluding.is_none_or(|at| at > moment) && there != Some(&Status::Waiting) {
                wrong.insert(id, format!("{id} was promised and is {there:?}"));
            }
            if !log.accepted.contains(id) {
                untold.insert(id, format!("nothing says that {id} was taken in"));
            }
        }
        if is(fate.settled) {
            if there.is_some() {
                wrong.insert(id, format!("{id} has ended and is {there:?}"));
            }
            if !log.ended.contains(id) {
                untold.insert(id, format!("nothing says that {id} has ended"));
            }
        }
        // A bit that flips in what nothing proves cuts all behind it, and the log may know of that already: which is reported.
        let is_cut = excused > 0 && !is(fate.settled);
        if there == Some(&Status::Waiting) && log.ended.contains(id) && !is_cut {
            wrong.insert(id, format!("{id} waits, and its end is told"));
        }
    }
    let made_up = statuses.keys().any(|id| !story.fates.contains_key(id));
    if wrong.len() > excused || untold.len() > excused || made_up {
        return Err(format!("{wrong:?} {untold:?}, {:?}", bench.spool.damage()));
    }
    Ok(())
}

/// Flips a bit somewhere in the segments.
fn flip(disk: &SimulatedDisk, random: &mut fastrand::Rng) {
    let paths = segments(disk);
    if paths.is_empty() {
        return;
    }
    let path = &paths[random.usize(..paths.len())];
    let (at, bit) = (random.usize(..), random.u8(..8));
    disk.tamper(path, |bytes| {
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
    });
}

/// Tells a story, and judges what would have been left of it at some of its moments.
async fn tell(seed: u64, disk: SimulatedDisk) -> Result<(), String> {
    let mut story = Story::begin(seed, disk);
    for _ in 0..STEPS {
        story.go_on().await;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut shots = story.camera.shots();
    random.shuffle(&mut shots);
    for shot in shots.into_iter().take(SHOTS) {
        let moment = shot.moment;
        judge(&story, shot, &mut random)
            .await
            .map_err(|what| format!("seed {seed}, moment {moment}: {what}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_power_fails_every_promise_is_kept() {
    let seeds =
        env::var("POSTHOUSE_POWER_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        if let Err(what) = tell(seed, SimulatedDisk::default()).await {
            panic!("{what}");
        }
    }
}

/// The story can fail: on disks that promise what they do not do, it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out() {
    for call in [Call::Sync, Call::SyncDir] {
        let mut found = 0;
        for seed in 0..20 {
            let disk = SimulatedDisk::default();
            disk.fail(call, Fault::Lie, When::From(0));
            found += usize::from(tell(seed, disk).await.is_err());
        }
        assert!(found > 5, "{call:?} lied 20 times, and only {found} stories noticed it");
    }
}
