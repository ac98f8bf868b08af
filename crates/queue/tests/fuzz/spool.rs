//! The target: a filled spool, changed, opened, used, closed and opened again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base::{Clock, MessageId, WorkId};
use queue::{
    Body, Holder, Kind, Position, Publication, Queue, QueueError, Spool, conformance, files::SimulatedDisk,
    spool::Options,
};
use testkit::fuzz::Fuzz;

use crate::changes::{CHANGE, Change};

const ME: Holder = Holder::Here;

#[test]
fn a_spool_of_any_bytes_opens_or_says_why_not_and_keeps_what_it_takes_then() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there are threads");
    let filled = runtime.block_on(fill());
    Fuzz::new(vec![vec![1; CHANGE], vec![0x1c, 2, 0, 3, 255, 1, 0x09, 0, 0, 33, 1, 1]], &[], 150).run(
        |input| {
            let disk = filled.after_kill();
            let segments = segments(&disk);
            for change in input.chunks_exact(CHANGE).take(20).map(Change::new) {
                disk.tamper(&segments[change.segment(segments.len())], |file| change.make(file));
            }
            runtime.block_on(try_it(disk))
        },
    );
}

/// Opens, looks at everything, takes one message more, and makes sure that it is there after another start.
async fn try_it(disk: SimulatedDisk) -> (String, usize) {
    let (spool, queue) = match open(&disk) {
        Ok(opened) => opened,
        Err(error) => {
            return (error.to_string().chars().filter(char::is_ascii_alphabetic).take(40).collect(), 0);
        }
    };
    let works = conformance::all(&queue);
    let mut leased = 0;
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, usize::MAX, &mut arrivals);
    for arrival in arrivals {
        for lease in queue.lease(ME, vec![arrival.ticket]).await {
            // Damaged bodies are told of; they must not be whole and wrong, which is for the tests of damage.
            let _ = conformance::read(&lease.body).await;
            leased += 1;
        }
    }
    read_feed(&queue);
    let new = message(30);
    let id = new.message;
    let published = queue.publish(vec![new]).await;
    drop((queue.close().await, spool));
    let (again, queue) = open(&disk.after_kill()).expect("what was opened and closed opens again");
    if published.is_ok() {
        assert!(queue.info(WorkId { message: id, index: 0 }).is_some(), "what was published then is lost");
    }
    drop((queue.close().await, again));
    (format!("{published:?}").chars().take(20).collect(), works.len() * 64 + leased)
}

fn read_feed(queue: &Queue) {
    let Ok(mut feed) = queue.feed(Position::default()) else { return };
    while let Ok((tales, position)) = feed.next(1, 1000, Duration::ZERO) {
        if tales.is_empty() {
            return feed.confirm(position);
        }
    }
}

fn open(disk: &SimulatedDisk) -> Result<(Arc<Spool>, Queue), QueueError> {
    let options =
        Options { segment_size: 64 << 10, inline_body: 8 << 10, recent_bytes: 0, ..Options::default() };
    let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), options)?;
    Ok((spool.clone(), Queue::new(spool)))
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|end| end == "segment")).collect()
}

fn message(bytes: usize) -> Publication {
    let mut message = conformance::message("example.com");
    message.header = vec![b'h'; bytes % 500].into();
    message.body = Body::Memory(vec![b'b'; bytes].into());
    message
}

/// A closed spool that holds all kinds of operations that tests can make it write.
async fn fill() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    let (spool, queue) = open(&disk).expect("a fresh spool opens");
    let mut ids: Vec<MessageId> = Vec::new();
    for number in 0..40 {
        let message = message(number * 150);
        ids.push(message.message);
        queue.publish(vec![message]).await.expect("there is room");
    }
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, usize::MAX, &mut arrivals);
    for (number, arrival) in arrivals.into_iter().enumerate() {
        let Some(leased) = queue.lease(ME, vec![arrival.ticket]).await.pop() else {
            continue;
        };
        match number % 4 {
            0 => drop(leased.lease.conclude(conformance::done())),
            1 => drop(leased.lease.conclude(conformance::conclusion(Vec::new()))),
            2 => drop(leased.lease.commit().await),
            _ => {}
        }
    }
    let cancelled = ids.iter().step_by(7).map(|message| WorkId { message: *message, index: 0 });
    let _ = queue.cancel(cancelled.collect(), Clock::system().now()).await;
    queue.close().await.expect("the disk works");
    drop(spool);
    disk.after_kill()
}
