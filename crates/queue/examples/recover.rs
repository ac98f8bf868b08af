//! How long a spool takes to open after kill -9, what a work takes of memory, and what a purge of all costs.
//!
//! `cargo run --release -p queue --example recover -- DIRECTORY MESSAGES`
//!
//! One process fills a spool through the queue's API: messages of 1 KiB with one work each, deferred three times, and kills
//! itself. The page cache is dropped (as root, else for these files only). A second one opens the spool, takes the first arrivals,
//! takes all, and then cancels all, page by page, while somebody else keeps asking for the lock.
//!
//! The slope of memory is the difference of two runs, divided by that of their messages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base::{Clock, MessageId};
use bytes::Bytes;
use queue::{
    Arrival, Body, Conclusion, Cursor, Holder, Kind, NewWork, Position, Publication, Queue, Reason, Repeat,
    Rest, Spool, files::Disk, spool::Options,
};

const SIZE: usize = 1 << 10;
const DEFERRALS: u32 = 3;
/// Messages of one publication, and works of one lease.
const BATCH: u64 = 64;
/// Publications and leases at once.
const AT_ONCE: u64 = 16;
/// Works cancelled at once.
const PAGE: usize = 4096;
const DOMAINS: u64 = 1000;
const ACCOUNTS: u64 = 50;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (Some(dir), Some(Ok(count))) = (args.get(1), args.get(2).map(|count| count.parse::<u64>())) else {
        eprintln!("usage: recover DIRECTORY MESSAGES");
        return ExitCode::from(2);
    };
    let dir = PathBuf::from(dir);
    match args.get(3).map(String::as_str) {
        Some("fill") => runtime().block_on(fill(&dir, count)),
        Some("open") => runtime().block_on(measure(&dir)),
        _ => {
            let dir = dir.join(format!("recover-{}", std::process::id()));
            run(&dir, count, "fill");
            drop_caches(&dir);
            run(&dir, count, "open");
            fs::remove_dir_all(&dir).expect("it is ours");
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started")
}

/// Runs a part of this program as a process of its own.
fn run(dir: &Path, count: u64, part: &str) {
    let program = std::env::current_exe().expect("it runs");
    let ended = Command::new(program).arg(dir).arg(count.to_string()).arg(part).status();
    let ended = ended.expect("it can be run");
    assert!(ended.success() || part == "fill", "{part}: {ended}");
}

fn drop_caches(dir: &Path) {
    rustix::fs::sync();
    if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return;
    }
    for file in fs::read_dir(dir.join("segments")).expect("it is there") {
        let file = fs::File::open(file.expect("it is there").path()).expect("it is there");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("it is asked for kindly");
    }
}

fn open(dir: &Path) -> Queue {
    let spool = Spool::open(Disk::real(), dir, Clock::system(), Options::default());
    Queue::new(spool.expect("the directory can be used"))
}

/// What the system says of this process, in KiB.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says so");
    let line = status.lines().find(|line| line.starts_with(what)).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

/// What this process has used, over all its threads.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux says so");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

async fn fill(dir: &Path, count: u64) {
    let queue = open(dir);
    let reader = queue.clone();
    std::thread::spawn(move || read_feed(&reader));
    let (begun, published) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let publishers: Vec<_> =
        (0..AT_ONCE).map(|_| tokio::spawn(publish(queue.clone(), published.clone(), count))).collect();
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
    println!("published {count} in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let deferrals: Vec<_> = (0..AT_ONCE)
        .map(|_| tokio::spawn(defer(queue.clone(), published.clone(), count * u64::from(DEFERRALS))))
        .collect();
    published.store(0, Ordering::SeqCst);
    for deferral in deferrals {
        deferral.await.expect("no panic");
    }
    queue.settled().await.expect("the disk works");
    let stats = queue.stats();
    assert_eq!(stats.works as u64, count);
    println!(
        "deferred {DEFERRALS} times in {:.1} s; {} segments; {} MiB of memory",
        begun.elapsed().as_secs_f64(),
        stats.segments,
        memory("VmRSS:") >> 10
    );
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .expect("it may kill itself");
}

async fn publish(queue: Queue, published: Arc<AtomicU64>, count: u64) {
    loop {
        let from = published.fetch_add(BATCH, Ordering::SeqCst);
        if from >= count {
            return;
        }
        let batch = (from..count.min(from + BATCH)).map(message).collect();
        queue.publish(batch).await.expect("there is room");
    }
}

fn message(number: u64) -> Publication {
    let at = Clock::system().now();
    Publication {
        message: MessageId::generate(at),
        kind: Kind::Mail,
        at,
        header: Bytes::from(vec![b'h'; 120]),
        body: Body::Memory(Bytes::from(vec![b'x'; SIZE])),
        works: vec![NewWork {
            lane: format!("domain{}.example", number % DOMAINS).into(),
            account: format!("192.0.2.{}/32", number % ACCOUNTS).into(),
            priority: 5,
            not_before: at,
            expires: at + Duration::from_secs(5 * 86_400),
            recipients: 1,
            needs: Vec::new(),
            detail: Bytes::from(format!("recipient{number}@domain{}.example", number % DOMAINS)),
        }],
        repeat: Repeat::Never,
    }
}

/// Defers what arrives, until that has been done often enough.
async fn defer(queue: Queue, done: Arc<AtomicU64>, enough: u64) {
    let mut arrivals: Vec<Arrival> = Vec::new();
    while done.load(Ordering::SeqCst) < enough {
        queue.take_arrivals(Kind::Mail, 64, &mut arrivals);
        if arrivals.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let tried = arrivals.drain(..).filter(|arrival| arrival.attempts < DEFERRALS);
        let tickets = tried.map(|arrival| arrival.ticket).collect();
        for leased in queue.lease(Holder::Here, tickets).await {
            let at = Clock::system().now();
            let conclusion = Conclusion {
                at,
                ends: Vec::new(),
                rest: Rest::Retry { not_before: at + Duration::from_secs(3600), reason: Reason::Deferred },
                state: Bytes::from(vec![b's'; 100]),
                record: Bytes::from(vec![b'r'; 150]),
                follow_ups: Vec::new(),
            };
            leased.lease.conclude(conclusion).expect("the queue is open");
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn read_feed(queue: &Queue) {
    let mut feed = queue.feed(Position::default()).expect("a new reader");
    loop {
        let Ok((tales, position)) = feed.next(1, 10_000, Duration::from_millis(100)) else { return };
        drop(tales);
        feed.confirm(position);
    }
}

async fn measure(dir: &Path) {
    let before = memory("VmRSS:");
    let begun = Instant::now();
    let queue = open(dir);
    let (opened, cpu) = (begun.elapsed(), cpu_time());
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, 1024, &mut arrivals);
    let works = queue.stats().works as u64;
    println!(
        "opened in {:.2} s ({:.2} s of CPU), {} arrivals after {:.2} s; {works} works in {} segments",
        opened.as_secs_f64(),
        cpu.as_secs_f64(),
        arrivals.len(),
        begun.elapsed().as_secs_f64(),
        queue.stats().segments
    );
    let (now, peak) = (memory("VmRSS:"), memory("VmHWM:"));
    println!(
        "memory {} MiB ({} KiB more than before, {} bytes a work), at most {} MiB",
        now >> 10,
        now - before,
        ((now - before) << 10) / works.max(1),
        peak >> 10
    );
    let begun = Instant::now();
    let mut all = arrivals.len();
    while {
        arrivals.clear();
        queue.take_arrivals(Kind::Mail, 1024, &mut arrivals);
        all += arrivals.len();
        !arrivals.is_empty()
    } {}
    println!("all {all} arrivals in {:.2} s", begun.elapsed().as_secs_f64());
    drop(arrivals);
    let reader = queue.clone();
    let feed = std::thread::Builder::new().name("feed".into());
    feed.spawn(move || read_feed(&reader)).expect("threads can be started");
    // Whoever reads the feed has kept up, mostly.
    while queue.stats().untold > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    purge(&queue).await;
    queue.close().await.expect("the disk works");
}

async fn purge(queue: &Queue) {
    let stop = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let (queue, stop) = (queue.clone(), stop.clone());
        move || longest_wait(&queue, &stop)
    });
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be forgotten");
    let (before, begun) = (memory("VmRSS:"), Instant::now());
    let (mut gone, mut page) = (0, Vec::with_capacity(PAGE));
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        from = queue.walk(Kind::Mail, cursor, PAGE, &mut |seen| page.push(seen.work));
        let some = std::mem::replace(&mut page, Vec::with_capacity(PAGE));
        gone += queue.cancel(some, Clock::system().now()).await.expect("the disk works");
    }
    let took = begun.elapsed();
    stop.store(true, Ordering::SeqCst);
    let waited = asking.join().expect("no panic");
    println!(
        "cancelled {gone} in {:.2} s; memory grew by {} KiB at most; nobody waited longer than {:.1} ms",
        took.as_secs_f64(),
        memory("VmHWM:").saturating_sub(before),
        waited.as_secs_f64() * 1e3
    );
    assert_eq!(queue.stats().works, 0);
}

/// The longest that somebody waited who wanted the lock every millisecond.
fn longest_wait(queue: &Queue, stop: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    let mut none = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        queue.take_arrivals(Kind::Run, 1, &mut none);
        longest = longest.max(begun.elapsed());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    longest
}
