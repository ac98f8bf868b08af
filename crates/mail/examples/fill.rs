//! Fills a data directory with mail that waits, through the queue's API and in mail's own words, and kills itself as `kill -9` does.
//!
//! `fill DIRECTORY COUNT [BYTES [DEFERRALS [LATER]]]`: so many messages of so many bytes (1024), each to one recipient at one of a thousand
//! domains and from one of fifty accounts, each deferred so often (3), and due now, or so many seconds later (0). The message log stands where
//! the spool ends, as that of a node which has kept up. The benches of `cargo xtask` use it.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "some words of many are written here; they are those of the crate, to the letter"
)]
#[path = "../src/envelope.rs"]
mod envelope;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::{Clock, MessageId, NodeId};
use bytes::Bytes;
use envelope::{
    Became, Detail, Dots, Header, RecipientWords, RecordWords, Remote, Repeated, Source, State, Trouble,
    Warned, encode,
};
use queue::{
    Arrival, Body, Conclusion, Holder, Kind, NewWork, Position, Publication, Queue, Reason, Repeat, Rest,
    Spool, files::Disk, spool::Options,
};
use smtp::{Needs, Reply};
use store::records::{self, Records};

/// Messages of one publication, and works of one lease.
const BATCH: u64 = 64;
/// Publications and leases at once.
const AT_ONCE: u64 = 16;
const DOMAINS: u64 = 1000;
const ACCOUNTS: u64 = 50;

/// What to fill the directory with.
#[derive(Clone, Debug)]
struct Plan {
    count: u64,
    text: Bytes,
    deferrals: u32,
    later: Duration,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |place: usize, usual: u64| args.get(place).map_or(Some(usual), |text| text.parse().ok());
    let (Some(dir), Some(count), Some(bytes), Some(deferrals), Some(later)) =
        (args.get(1), number(2, 0), number(3, 1024), number(4, 3), number(5, 0))
    else {
        eprintln!("usage: fill DIRECTORY COUNT [BYTES [DEFERRALS [LATER]]]");
        return ExitCode::from(2);
    };
    let plan = Plan {
        count,
        text: text(usize::try_from(bytes).unwrap_or(usize::MAX)),
        deferrals: u32::try_from(deferrals).unwrap_or(u32::MAX),
        later: Duration::from_secs(later),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(fill(&PathBuf::from(dir), Arc::new(plan)));
    ExitCode::FAILURE
}

fn text(bytes: usize) -> Bytes {
    let mut text = b"Subject: waits\r\n\r\n".to_vec();
    while text.len() + 2 < bytes {
        let line = (bytes - text.len() - 2).min(76);
        text.extend(vec![b'x'; line]);
        text.extend(b"\r\n");
    }
    text.into()
}

async fn fill(dir: &Path, plan: Arc<Plan>) {
    let spool = Spool::open(Disk::real(), &dir.join("spool"), Clock::system(), Options::default());
    let queue = Queue::new(spool.expect("the directory can be used"));
    std::fs::write(dir.join("node-id"), format!("{}\n", NodeId::generate()))
        .expect("the directory can be used");
    let (reader, log) = (queue.clone(), dir.join("message-log.sqlite"));
    std::thread::spawn(move || follow(&reader, &log));
    let (published, deferred) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        tasks.push(tokio::spawn(publish(queue.clone(), published.clone(), plan.clone())));
        tasks.push(tokio::spawn(defer(queue.clone(), deferred.clone(), plan.clone())));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    queue.settled().await.expect("the disk works");
    while queue.stats().untold > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(queue.stats().works as u64, plan.count);
    println!("{} works wait", plan.count);
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("it may kill itself");
}

async fn publish(queue: Queue, published: Arc<AtomicU64>, plan: Arc<Plan>) {
    loop {
        let from = published.fetch_add(BATCH, Ordering::SeqCst);
        if from >= plan.count {
            return;
        }
        let batch = (from..plan.count.min(from + BATCH)).map(|number| message(number, &plan)).collect();
        queue.publish(batch).await.expect("there is room");
    }
}

fn message(number: u64, plan: &Plan) -> Publication {
    let at = Clock::system().now();
    let domain = format!("d{}.example", number % DOMAINS);
    let header = Header {
        sender: format!("from{}@example.org", number % ACCOUNTS).try_into().expect("it is an address"),
        needs: Needs::default(),
        size: plan.text.len() as u64,
        header_len: 16,
        dots: Dots::None,
        source: Source::Smtp,
        node: "mx1".into(),
        client: Some(([192, 0, 2, 1], 25).into()),
        helo: "client.example.org".into(),
        protocol: "ESMTP".into(),
        retry: None,
    };
    let recipient = format!("u{number}@{domain}").parse().expect("it is an address");
    Publication {
        message: MessageId::generate(at),
        kind: Kind::Mail,
        at,
        header: header.write(),
        body: Body::Memory(plan.text.clone()),
        works: vec![NewWork {
            lane: domain.into(),
            account: format!("192.0.2.{}/32", number % ACCOUNTS).into(),
            priority: 9,
            not_before: at + plan.later,
            expires: at + Duration::from_secs(5 * 86_400),
            recipients: 1,
            needs: Vec::new(),
            detail: encode(&Detail { recipients: vec![recipient] }),
        }],
        repeat: Repeat::Never,
    }
}

/// Defers what arrives, until that has been done often enough.
async fn defer(queue: Queue, done: Arc<AtomicU64>, plan: Arc<Plan>) {
    let enough = plan.count * u64::from(plan.deferrals);
    let mut arrivals: Vec<Arrival> = Vec::new();
    while done.load(Ordering::SeqCst) < enough {
        queue.take_arrivals(Kind::Mail, 64, &mut arrivals);
        if arrivals.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let tried = arrivals.drain(..).filter(|arrival| arrival.attempts < plan.deferrals);
        let tickets = tried.map(|arrival| arrival.ticket).collect();
        for leased in queue.lease(Holder::Here, tickets).await {
            let conclusion = conclusion(leased.info.attempts + 1, &plan);
            leased.lease.conclude(conclusion).expect("the queue is open");
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn conclusion(attempt: u32, plan: &Plan) -> Conclusion {
    let at = Clock::system().now();
    let not_before = at + plan.later;
    let address = ([192, 0, 2, 1], 25).into();
    let reply = Reply::new(451, (4, 4, 1), "192.0.2.1:25: no answer within 30 s");
    let remote = Remote { host: "mx.example:25".into(), address: Some(address) };
    let trouble = Trouble { reason: "connect".into(), reply, at };
    let state = State { remote, waiting: vec![(0, trouble)], warned: Warned::No };
    let record = RecordWords {
        node: "mx1",
        host: "mx.example:25",
        address: Some(address),
        attempt,
        repeated: Repeated::No,
        recipients: vec![RecipientWords {
            number: 0,
            became: Became::Deferred { until: not_before },
            reason: "connect",
            reply: "451 4.4.1 192.0.2.1:25: no answer within 30 s",
        }],
    };
    Conclusion {
        at,
        ends: Vec::new(),
        rest: Rest::Retry { not_before, reason: Reason::Deferred },
        state: state.write(),
        record: encode(&record),
        follow_ups: Vec::new(),
    }
}

/// Reads all that is told, and notes in the message log how far that was, and nothing else.
fn follow(queue: &Queue, log: &Path) {
    let mut records = Records::open(log).expect("the directory can be used");
    let mut feed = queue.feed(Position::default()).expect("a new reader");
    loop {
        let Ok((tales, position)) = feed.next(1, 10_000, Duration::from_millis(100)) else { return };
        drop(tales);
        let here = records::Position { spool: position.spool, sequence: position.sequence };
        let noted = records.write(&[], here).and_then(|()| records.make_durable());
        noted.expect("the log can be written");
        feed.confirm(position);
    }
}
