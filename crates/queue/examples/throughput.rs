//! How many messages a second the spool takes and gives on a real directory, and what each costs.
//!
//! `cargo run --release -p queue --example throughput -- DIRECTORY`
//!
//! Each row: so many publishers, each waiting for its answer before its next message of 10 KiB, and one consumer that
//! leases, commits and concludes. CPU is that of the whole process, sums over all its threads.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base::{Clock, MessageId, Timestamp};
use bytes::Bytes;
use queue::{
    Body, Conclusion, End, Holder, Kind, NewWork, Position, Publication, Queue, Reason, Repeat, Rest, Spool,
    files::{Disk, DiskProvider, File, FileProvider},
    spool::Options,
};

const SIZE: usize = 10 << 10;
const RUN_FOR: Duration = Duration::from_millis(2000);

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: throughput DIRECTORY");
        return ExitCode::from(2);
    };
    println!("publishers  messages/s  CPU us/message  syncs/message");
    for publishers in [1, 8, 20, 64] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let row = runtime.expect("threads can be started").block_on(measure(&dir, publishers));
        println!("{publishers:>10}  {row}");
    }
    ExitCode::SUCCESS
}

async fn measure(dir: &Path, publishers: usize) -> String {
    let dir = dir.join(format!("throughput-{}-{publishers}", std::process::id()));
    let counting = Counting { disk: Disk::real(), syncs: Arc::default() };
    let syncs = counting.syncs.clone();
    let disk = Disk::new(Arc::new(counting));
    let spool =
        Spool::open(disk, &dir, Clock::system(), Options::default()).expect("the directory can be used");
    let queue = Queue::new(spool.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let queue = queue.clone();
        move || read_feed(&queue)
    });
    // Until the segments at hand are filled with zeros.
    while queue.stats().free_segments < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (cpu, synced, begun) = (cpu_time(), syncs.load(Ordering::SeqCst), Instant::now());
    let body = Bytes::from(vec![b'x'; SIZE]);
    let concluded = Arc::new(AtomicU64::new(0));
    let consumer = tokio::spawn(consume(queue.clone(), concluded.clone()));
    let publishing: Vec<_> =
        (0..publishers).map(|_| tokio::spawn(publish(queue.clone(), body.clone(), stop.clone()))).collect();
    tokio::time::sleep(RUN_FOR).await;
    stop.store(true, Ordering::SeqCst);
    let mut published = 0;
    for publisher in publishing {
        published += publisher.await.expect("no panic");
    }
    let took = begun.elapsed();
    while concluded.load(Ordering::SeqCst) < published {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    queue.settled().await.expect("the disk works");
    let (cpu, synced) = (cpu_time() - cpu, syncs.load(Ordering::SeqCst) - synced);
    consumer.abort();
    queue.close().await.expect("the disk works");
    reader.join().expect("no panic");
    std::fs::remove_dir_all(&dir).expect("it is ours");
    let count = published as f64;
    format!(
        "{:>10.0}  {:>14.1}  {:>13.3}",
        count / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
        synced as f64 / count
    )
}

async fn publish(queue: Queue, body: Bytes, stop: Arc<AtomicBool>) -> u64 {
    let mut published = 0;
    while !stop.load(Ordering::SeqCst) {
        let at = Clock::system().now();
        let publication = Publication {
            message: MessageId::generate(at),
            kind: Kind::Mail,
            at,
            header: Bytes::from_static(b"from someone@example.com by 192.0.2.1 as client.example.com"),
            body: Body::Memory(body.clone()),
            works: vec![NewWork {
                lane: "example.com".into(),
                account: "192.0.2.0/24".into(),
                priority: 5,
                not_before: at,
                expires: at + Duration::from_secs(86_400),
                recipients: 1,
                needs: Vec::new(),
                detail: Bytes::from_static(b"to somebody@example.com"),
            }],
            repeat: Repeat::Never,
        };
        queue.publish(vec![publication]).await.expect("it is published");
        published += 1;
    }
    published
}

/// What a dispatcher does at most: leases, commits and concludes all that comes.
async fn consume(queue: Queue, concluded: Arc<AtomicU64>) {
    let mut arrivals = Vec::new();
    loop {
        queue.take_arrivals(Kind::Mail, 20, &mut arrivals);
        if arrivals.is_empty() {
            queue.arrived(Kind::Mail).await;
            continue;
        }
        let tickets = arrivals.drain(..).map(|arrival| arrival.ticket).collect();
        for leased in queue.lease(Holder::Here, tickets).await {
            let (committing, remaining) = leased.lease.commit().await.expect("nobody else has it");
            let conclusion = Conclusion {
                at: Clock::system().now(),
                ends: vec![(End::Done, remaining)],
                rest: Rest::Retry { not_before: Timestamp::default(), reason: Reason::Deferred },
                state: Bytes::new(),
                record: Bytes::from_static(b"delivered to mx.example.com [192.0.2.9]: 250 2.0.0 ok"),
                follow_ups: Vec::new(),
            };
            committing.conclude(conclusion).expect("it is concluded");
            concluded.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What the message log does at least: reads and confirms.
fn read_feed(queue: &Queue) {
    let mut feed = queue.feed(Position::default()).expect("a new reader");
    loop {
        let (tales, position) = feed.next(500, 1000, Duration::from_millis(100)).expect("the disk works");
        if tales.is_empty() && feed.is_closed() {
            return;
        }
        feed.confirm(position);
    }
}

/// User and system time of this process, to a hundredth of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The machine's disk, with a count of its syncs.
struct Counting {
    disk: Disk,
    syncs: Arc<AtomicU64>,
}

struct CountingFile {
    file: File,
    syncs: Arc<AtomicU64>,
}

impl Counting {
    fn counted(&self, file: File) -> Arc<dyn FileProvider> {
        Arc::new(CountingFile { file, syncs: self.syncs.clone() })
    }
}

impl DiskProvider for Counting {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.counted(self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.counted(self.disk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(self.disk.lock(path.to_owned())?))
    }
}

impl FileProvider for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_slices_at(slices, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
