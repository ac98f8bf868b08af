//! The threads that the tasks of a node run on: one for each core, of which those rest that there is too little to do for.
//!
//! A task that wakes others wakes another thread for them, which looks everywhere for more, finds little, and sleeps again; and all that
//! they work on has to come from one core to the other. That is worth it where there is much to do at once. Where fewer
//! threads do all of it with ease, mail costs a fifth more by it (`docs/PERFORMANCE.md`).
//!
//! A thread rests by running a task that blocks it: tokio takes it for busy and gives it nothing, and the others take what waited for
//! it. It gets up every few hundredths of a second. One of those that rest looks how busy the others are, and whether all of
//! them have been at one task for so long that the rest waits for them; then more get up for good.

use std::{
    future::Future,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::{Builder, RuntimeMetrics, worker_index},
    task::yield_now,
};

/// Threads that there are at least, so that a busy one does not hold up the others' tasks.
const MIN_THREADS: usize = 2;
/// How often it is looked how busy they are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often while there is next to nothing to do.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Up to this part of its time a thread does what it has to do with ease.
const EASE: f64 = 0.75;
/// Below this part nobody does anything.
const IDLE: f64 = 0.01;
/// The load is a mean that follows what is seen by one part in so many.
const SMOOTHING: f64 = 4.0;

/// Runs a future to its end, and its tasks beside it until then.
///
/// # Errors
/// There are no threads to be had.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let threads = thread::available_parallelism().map_or(MIN_THREADS, usize::from).max(MIN_THREADS);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.spawn(watch(runtime.metrics(), Arc::new(Beds::new(threads))));
    let ended = runtime.block_on(future);
    // A disk that hangs hangs threads with it: the end does not wait for them.
    runtime.shutdown_background();
    Ok(ended)
}

/// Has threads rest, and looks after it; is itself the first to.
#[expect(clippy::disallowed_methods, reason = "a thread that rests is to be blocked")]
async fn watch(metrics: RuntimeMetrics, beds: Arc<Beds>) {
    let mut load = Load::of(look(&metrics));
    let (mut pause, mut looked) = (LOOK_EVERY, Instant::now());
    loop {
        let bed = if load.awake == load.seen.len() {
            // None of the others rests, so nobody depends on this.
            tokio::time::sleep(pause).await;
            None
        } else {
            let bed = beds.lie_down().await;
            thread::sleep(pause);
            bed
        };
        let now = Instant::now();
        let used = load.follow(look(&metrics), beds.resting(), now - looked);
        looked = now;
        drop(bed);
        let others = (load.seen.len() - load.awake).saturating_sub(1);
        beds.have_rest(others, pause);
        pause = if used < IDLE { IDLE_LOOK_EVERY } else { LOOK_EVERY };
    }
}

/// What a thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    busy: Duration,
    /// How often it went to sleep, and woke.
    turns: u64,
}

impl Seen {
    /// Whether it has neither slept nor come to an end of its tasks since an earlier look.
    fn is_stuck_since(self, before: Self) -> bool {
        let sleeps = self.turns % 2 == 1;
        !sleeps && self == before
    }
}

fn look(metrics: &RuntimeMetrics) -> Vec<Seen> {
    let one = |worker| Seen {
        busy: metrics.worker_total_busy_duration(worker),
        turns: metrics.worker_park_unpark_count(worker),
    };
    (0..metrics.num_workers()).map(one).collect()
}

/// How much there is to do, and for how many threads that is.
#[derive(Debug)]
struct Load {
    seen: Vec<Seen>,
    /// Which rested at the last look.
    rested: Vec<bool>,
    /// In threads that would do nothing else.
    mean: f64,
    /// How many are not to rest.
    awake: usize,
}

impl Load {
    fn of(seen: Vec<Seen>) -> Self {
        Self { awake: seen.len(), mean: 0.0, rested: vec![false; seen.len()], seen }
    }

    /// Follows what was done since the last look; returns how much that was.
    #[expect(clippy::cast_precision_loss, reason = "threads are few")]
    fn follow(&mut self, seen: Vec<Seen>, resting: Vec<bool>, since: Duration) -> f64 {
        let (mut used, mut stuck) = (0.0, 0.0);
        // Of one that has just got up it is said only now how long it was busy with that.
        let rests = resting.iter().zip(&self.rested).map(|(now, before)| *now || *before);
        for ((now, before), _) in seen.iter().zip(&self.seen).zip(rests).filter(|(_, rests)| !rests) {
            if now.is_stuck_since(*before) {
                stuck += 1.0;
            } else {
                used += now.busy.saturating_sub(before.busy).div_duration_f64(since).min(1.0);
            }
        }
        used += stuck;
        (self.seen, self.rested) = (seen, resting);
        // Who waits behind a stuck one should not wait for the mean.
        self.mean = (self.mean + (used - self.mean) / SMOOTHING).max(stuck);
        if self.mean > EASE * self.awake as f64 {
            self.awake = (2 * self.awake).min(self.seen.len());
        } else if self.mean < EASE * (self.awake - 1) as f64 {
            self.awake -= 1;
        }
        used
    }
}

/// Where threads rest.
#[derive(Debug)]
struct Beds {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Which threads rest, by their numbers.
    resting: Vec<bool>,
    /// Tasks that have one rest.
    tasks: usize,
    /// How many of them there are to be.
    wanted: usize,
}

/// A thread rests, until this is dropped on it.
struct Bed<'b> {
    beds: &'b Beds,
    thread: usize,
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        self.beds.state.lock().resting[self.thread] = false;
    }
}

impl Beds {
    fn new(threads: usize) -> Self {
        let state = State { resting: vec![false; threads], tasks: 0, wanted: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn resting(&self) -> Vec<bool> {
        self.state.lock().resting.clone()
    }

    /// The thread that this returns on may be blocked: nothing waits for it that another one cannot take.
    async fn lie_down(&self) -> Option<Bed<'_>> {
        // What it put off is put to its queue, where others find it. A task that puts itself off again before this goes on waits until the
        // thread gets up, which is not long.
        yield_now().await;
        // The task that a thread was told of last is in no queue until another comes after it. The first of these sees to that, and the
        // second that a thread is woken for the first: it takes what is in the queue, and then waits for sockets and timers, as
        // this one may have done until now.
        tokio::spawn(async {});
        tokio::spawn(async {});
        let thread = worker_index()?;
        self.state.lock().resting[thread] = true;
        Some(Bed { beds: self, thread })
    }

    /// Has so many threads rest beside the one that calls it; they get up for a moment each time that this has passed.
    fn have_rest(self: &Arc<Self>, wanted: usize, pause: Duration) {
        let mut state = self.state.lock();
        state.wanted = wanted;
        let more = wanted.saturating_sub(state.tasks);
        state.tasks += more;
        drop(state);
        self.changed.notify_all();
        for _ in 0..more {
            tokio::spawn(self.clone().rest(pause));
        }
    }

    async fn rest(self: Arc<Self>, pause: Duration) {
        loop {
            let bed = self.lie_down().await;
            let goes_on = self.rest_here(pause);
            drop(bed);
            if !goes_on {
                return;
            }
        }
    }

    /// Blocks the thread for a while; returns whether the task is to go on.
    fn rest_here(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| state.tasks <= state.wanted, pause);
        let goes_on = state.tasks <= state.wanted;
        if !goes_on {
            state.tasks -= 1;
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        runtime::Runtime,
        time::timeout,
    };

    use super::*;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn runtime(threads: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("there are threads")
    }

    /// A thread that is busy for a part of each look.
    fn part(of: &mut Seen, part: f64) {
        of.busy += LOOK_EVERY.mul_f64(part);
        of.turns += 2;
    }

    #[test]
    fn so_many_are_awake_as_do_all_with_ease() {
        let mut seen = vec![Seen { busy: Duration::ZERO, turns: 1 }; 4];
        let mut load = Load::of(seen.clone());
        let mut after = |parts: [f64; 4], looks: usize| {
            for _ in 0..looks {
                seen.iter_mut().zip(parts).for_each(|(seen, share)| part(seen, share));
                let resting: Vec<bool> = (0..4).map(|number| number >= load.awake).collect();
                load.follow(seen.clone(), resting, LOOK_EVERY);
            }
            load.awake
        };
        assert_eq!(after([0.0; 4], 1), 3, "one after the other");
        assert_eq!(after([0.0; 4], 10), 1, "one stays");
        assert_eq!(after([0.7, 0.0, 0.0, 0.0], 100), 1, "that is done with ease");
        assert_eq!(after([0.9, 0.0, 0.0, 0.0], 20), 2);
        assert_eq!(after([0.7, 0.7, 0.0, 0.0], 100), 2, "one would not do it");
        assert_eq!(after([1.0; 4], 20), 4, "all that there are");
        assert_eq!(after([0.5; 4], 100), 3);
        assert_eq!(after([0.45; 4], 100), 2);
    }

    #[test]
    fn those_that_are_stuck_count_at_once_and_those_that_sleep_or_rest_do_not() {
        let asleep = Seen { busy: Duration::from_secs(1), turns: 3 };
        let at_work = Seen { turns: 4, ..asleep };
        let mut load = Load { awake: 1, ..Load::of(vec![asleep, at_work]) };
        assert!(load.follow(vec![asleep, at_work], vec![false, true], LOOK_EVERY) < IDLE);
        assert_eq!(load.awake, 1);
        // The first look may have come just after it began.
        load.follow(vec![at_work, at_work], vec![false, true], LOOK_EVERY);
        assert_eq!(load.awake, 1);
        load.follow(vec![at_work, at_work], vec![false, true], LOOK_EVERY);
        assert_eq!(load.awake, 2);
        for _ in 0..100 {
            load.follow(vec![at_work, asleep], vec![false, false], LOOK_EVERY);
        }
        assert_eq!(load.awake, 2, "the other one must not rest meanwhile");
    }

    #[test]
    fn a_task_that_waits_on_its_thread_for_another_does_not_wait_for_ever() {
        let runtime = runtime(2);
        let beds = Arc::new(Beds::new(2));
        runtime.spawn(watch(runtime.metrics(), beds.clone()));
        for _ in 0..3 {
            while !beds.resting().contains(&true) {
                thread::yield_now();
            }
            let (sender, receiver) = mpsc::channel();
            let (begun, has_begun) = mpsc::channel();
            let waits = runtime.spawn(async move {
                let _ = begun.send(());
                receiver.recv_timeout(PATIENCE)
            });
            has_begun.recv_timeout(PATIENCE).expect("it begins");
            runtime.spawn(async move { sender.send(()) });
            let heard = runtime.block_on(waits).expect("it did not panic");
            heard.expect("the other one had its turn");
        }
    }

    /// A runtime does not end before its threads get up.
    struct GetUp(Arc<Beds>);

    impl Drop for GetUp {
        fn drop(&mut self) {
            self.0.have_rest(0, PATIENCE);
        }
    }

    /// Two ends of a connection that send a byte to and fro, and count.
    async fn plays(counts: Arc<AtomicU64>) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut near = TcpStream::connect(listener.local_addr()?).await?;
        let (mut far, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() && far.write_all(&byte).await.is_ok() {}
        });
        loop {
            near.write_all(&[1]).await?;
            near.read_exact(&mut [0]).await?;
            counts.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn sockets_and_timers_are_waited_for_whoever_rests() {
        for threads in [2, 4] {
            let runtime = runtime(threads);
            let _context = runtime.enter();
            let beds = Arc::new(Beds::new(threads));
            let _up = GetUp(beds.clone());
            let counts = Arc::new(AtomicU64::new(0));
            let game = runtime.spawn(plays(counts.clone()));
            for round in 0..300 {
                // Nobody gets up in between, as they do elsewhere.
                beds.have_rest(if round % 2 == 0 { threads - 1 } else { 0 }, 10 * PATIENCE);
                let (before, begun) = (counts.load(Ordering::Relaxed), Instant::now());
                while counts.load(Ordering::Relaxed) < before + 3 {
                    let goes_on = begun.elapsed() < PATIENCE && !game.is_finished();
                    assert!(goes_on, "the game stands in round {round}: {beds:?}");
                    thread::yield_now();
                }
                let timer = runtime.spawn(async { tokio::time::sleep(Duration::from_micros(100)).await });
                let rang = runtime.block_on(async { timeout(PATIENCE, timer).await });
                rang.expect("it rings").expect("it did not panic");
            }
        }
    }

    #[test]
    fn a_future_is_run_to_its_end_whoever_rests() {
        let long = async {
            tokio::time::sleep(4 * IDLE_LOOK_EVERY).await;
            tokio::spawn(async { 7 }).await.expect("it did not panic")
        };
        assert_eq!(run(long).expect("there are threads"), 7);
    }
}
