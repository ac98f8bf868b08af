//! The threads that the tasks of a node run on: one for each core, of which those rest for which there is too little to do.
//!
//! A task that wakes others wakes another thread for them, which looks everywhere for more, finds little, and sleeps again; and all that
//! they work on has to come from one core to the other. That is worth it where there is much to do at once. Where fewer
//! threads do all of it with ease, it makes mail dearer (`docs/PERFORMANCE.md`).
//!
//! A thread rests by running a task that blocks it: tokio takes it for busy and gives it nothing, and the others take what waited for
//! it. It gets up every few hundredths of a second. A thread of its own watches how much the threads have to do, and whether one has been at
//! one task for so long that others may wait for their turn; then more get up at once.

use std::{
    fs::File,
    future::Future,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeMetrics, worker_index},
    task::yield_now,
};

/// Threads that there are at least, so that a busy one does not hold up the others' tasks.
const MIN_THREADS: usize = 2;
/// How often it is looked how busy they are; and how long a thread rests at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often while there is next to nothing to do.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Up to this part of a core a thread does what it has to do with ease; beyond it twice as many get up.
const EASE: f64 = 0.45;
/// What takes less than this part of a core for each does not need twice as many.
const CALM: f64 = 0.4;
/// After so many looks that showed that, half of them rest.
const CALM_LOOKS: u32 = 25;
/// Below this part of a core none rests: with nothing to do they sleep by themselves.
const IDLE: f64 = 0.01;
/// The load is a mean that follows what is seen by one part in so many.
const SMOOTHING: f64 = 4.0;
/// After so many rests one after the other a thread is up for as long as one of them.
const RESTS: u32 = 25;
/// Threads begin well within this time.
const START: Duration = Duration::from_secs(1);

/// Runs a future to its end, and its tasks beside it until then.
///
/// # Errors
/// The system has no descriptors or threads left for it.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let count = thread::available_parallelism().map_or(MIN_THREADS, usize::from).max(MIN_THREADS);
    let (runtime, threads) = start(count)?;
    let watch = Watch::start(runtime.handle(), threads, LOOK_EVERY)?;
    let ended = runtime.block_on(future);
    drop(watch);
    // A disk that hangs hangs threads with it: the end does not wait for them.
    runtime.shutdown_background();
    Ok(ended)
}

/// A runtime with so many threads for tasks.
fn start(count: usize) -> io::Result<(Runtime, Threads)> {
    let (started, ids) = mpsc::channel();
    let runtime = Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .on_thread_start(move || {
            // Nobody asks after those for blocking work, which come later.
            let _ = started.send(rustix::thread::gettid());
        })
        .build()?;
    let ids: Result<Vec<_>, _> = (0..count).map(|_| ids.recv_timeout(START)).collect();
    let account = |id: &rustix::thread::Pid| {
        File::open(format!("/proc/self/task/{}/schedstat", id.as_raw_nonzero())).ok()
    };
    let accounts = ids.ok().and_then(|ids| ids.iter().map(account).collect());
    let metrics = runtime.metrics();
    Ok((runtime, Threads { metrics, accounts }))
}

/// Has threads rest, until it is dropped.
struct Watch {
    beds: Arc<Beds>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Threads rest for as long as `rest` at once.
    fn start(handle: &Handle, threads: Threads, rest: Duration) -> io::Result<Self> {
        let beds = Arc::new(Beds::new(threads.count(), rest));
        let (shared, handle) = (beds.clone(), handle.clone());
        let watch = move || watch(&threads, &shared, &handle);
        let thread = thread::Builder::new().name("thread-watch".into()).spawn(watch)?;
        Ok(Self { beds, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.beds.end();
        if let Some(thread) = self.thread.take() {
            // It has no reason to panic, and would have ended the process.
            let _ = thread.join();
        }
    }
}

fn watch(threads: &Threads, beds: &Arc<Beds>, handle: &Handle) {
    let mut load = Load::of(threads.count(), threads.look(beds));
    let (mut pause, mut looked) = (LOOK_EVERY, Instant::now());
    while !beds.has_ended_within(pause) {
        let (now, before) = (Instant::now(), load.awake);
        load.follow(threads.look(beds), now - looked);
        looked = now;
        if load.awake != before {
            tracing::debug!(awake = load.awake, load = load.mean, "as many threads have enough to do");
        }
        let is_idle = load.mean < IDLE;
        beds.set_wanted(if is_idle { 0 } else { threads.count() - load.awake }, handle);
        pause = if is_idle { IDLE_LOOK_EVERY } else { LOOK_EVERY };
    }
}

/// The threads for tasks.
#[derive(Debug)]
struct Threads {
    metrics: RuntimeMetrics,
    /// Where the system says how long each has run (`proc_pid_schedstat(5)`), if it does.
    accounts: Option<Vec<File>>,
}

/// What threads have done so far.
#[derive(Clone, Debug)]
struct Look {
    /// How long they have run on a core, all together; nothing where the system does not say.
    cpu: Option<Duration>,
    each: Vec<Seen>,
}

/// What a thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How long it was at its tasks, as of the last time that it came to an end of some.
    busy: Duration,
    /// How often it went to sleep, and woke.
    parks_and_unparks: u64,
    /// How often it lay down, and got up.
    rests: u64,
}

impl Seen {
    /// Whether it has been at one task since an earlier look: it has not slept, rested, or come to an end of some tasks.
    fn is_stuck_since(self, before: Self) -> bool {
        let (sleeps, rests) = (self.parks_and_unparks % 2 == 1, self.rests % 2 == 1);
        !sleeps && !rests && self == before
    }
}

impl Threads {
    fn count(&self) -> usize {
        self.metrics.num_workers()
    }

    fn look(&self, beds: &Beds) -> Look {
        let each = |(worker, rests)| Seen {
            busy: self.metrics.worker_total_busy_duration(worker),
            parks_and_unparks: self.metrics.worker_park_unpark_count(worker),
            rests,
        };
        let cpu: Option<Duration> = self.accounts.iter().flatten().map(cpu).sum();
        Look {
            // An account that is not kept is there, and says zero.
            cpu: cpu.filter(|cpu| !cpu.is_zero()),
            each: beds.rests().into_iter().enumerate().map(each).collect(),
        }
    }
}

/// How long a thread has run, by its account: the first of three numbers, in nanoseconds.
fn cpu(account: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let read = account.read_at(&mut text, 0).ok()?;
    let number = text[..read].split(|byte| *byte == b' ').next()?;
    str::from_utf8(number).ok()?.parse().ok().map(Duration::from_nanos)
}

/// How much there is to do, and for how many threads that is.
#[derive(Debug)]
struct Load {
    threads: usize,
    last: Look,
    /// In cores.
    mean: f64,
    /// How many are not to rest.
    awake: usize,
    /// How many looks in a row showed that half as many would do.
    calm: u32,
}

impl Load {
    fn of(threads: usize, last: Look) -> Self {
        Self { threads, last, mean: 0.0, awake: threads, calm: 0 }
    }

    /// Follows what was done since the last look.
    #[expect(clippy::cast_precision_loss, reason = "threads are few")]
    fn follow(&mut self, look: Look, since: Duration) {
        let each = look.each.iter().zip(&self.last.each);
        let stuck = each.filter(|(now, before)| now.is_stuck_since(**before)).count() as f64;
        let used = match (look.cpu, self.last.cpu) {
            (Some(now), Some(before)) => now.saturating_sub(before).div_duration_f64(since),
            // Nobody rests while it is not known who works.
            _ => self.threads as f64,
        };
        self.last = look;
        // Who waits behind a stuck one should not wait for the mean.
        self.mean = (self.mean + (used - self.mean) / SMOOTHING).max(stuck);
        let fewer = self.awake / 2;
        self.calm = if self.mean < CALM * fewer as f64 { self.calm + 1 } else { 0 };
        if self.mean > EASE * self.awake as f64 {
            self.awake = (2 * self.awake).min(self.threads);
        } else if self.calm == CALM_LOOKS {
            self.awake = fewer;
            self.calm = 0;
        }
    }
}

/// Where threads rest.
#[derive(Debug)]
struct Beds {
    state: Mutex<State>,
    changed: Condvar,
    /// How long a thread rests at once.
    rest: Duration,
}

#[derive(Debug)]
struct State {
    /// How often each thread lay down, and got up.
    rests: Vec<u64>,
    /// Tasks that have one rest.
    tasks: usize,
    /// How many of them there are to be.
    wanted: usize,
    ended: bool,
}

impl State {
    /// Whether there are no more tasks than there are to be.
    fn is_to_rest(&self) -> bool {
        self.tasks <= self.wanted && !self.ended
    }
}

impl Beds {
    fn new(threads: usize, rest: Duration) -> Self {
        let state = State { rests: vec![0; threads], tasks: 0, wanted: 0, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), rest }
    }

    fn rests(&self) -> Vec<u64> {
        self.state.lock().rests.clone()
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    fn has_ended_within(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.ended, pause);
        state.ended
    }

    /// Has so many threads rest.
    fn set_wanted(self: &Arc<Self>, wanted: usize, handle: &Handle) {
        let mut state = self.state.lock();
        state.wanted = wanted;
        let missing = wanted.saturating_sub(state.tasks);
        state.tasks += missing;
        let are_too_many = state.tasks > wanted;
        drop(state);
        if are_too_many {
            self.changed.notify_all();
        }
        for _ in 0..missing {
            handle.spawn(self.clone().have_one_rest());
        }
    }

    /// Has the threads that it runs on rest, until it is too much or for so long that this thread should be up for a while.
    async fn have_one_rest(self: Arc<Self>) {
        let mut is_to_rest = true;
        for _ in 0..RESTS {
            leave_nothing().await;
            is_to_rest = self.rest_here();
            if !is_to_rest {
                break;
            }
        }
        if is_to_rest {
            self.state.lock().tasks -= 1;
        }
    }

    /// Blocks the thread that calls it for one rest; returns whether there is to be another. If not, its task counts no more.
    fn rest_here(&self) -> bool {
        let thread = worker_index().expect("a task runs on a thread of the runtime");
        let mut state = self.state.lock();
        state.rests[thread] += 1;
        self.changed.wait_while_for(&mut state, |state| state.is_to_rest(), self.rest);
        state.rests[thread] += 1;
        let is_to_rest = state.is_to_rest();
        if !is_to_rest {
            state.tasks -= 1;
        }
        is_to_rest
    }
}

/// The thread that this returns on may be blocked: what waits for it is where others find it, and one of them looks for it.
///
/// Only a task that gives up its turn each time that it has it, as one that moves bytes without ever waiting, may be left, with one turn for
/// each rest: of bytes that is a hundred MiB a second.
async fn leave_nothing() {
    // The thread puts what has given up its turn to its queue.
    yield_now().await;
    // The task that a thread was told of last is in no queue until another comes after it. The first of these sees to that, and the
    // second that a thread is woken for the first: it takes what is in the queue, and then waits for sockets and timers, as this
    // one may have done until now.
    tokio::spawn(async {});
    tokio::spawn(async {});
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    use testkit::until;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        task::unconstrained,
        time::timeout,
    };

    use super::*;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn so_many_are_awake_as_do_all_with_ease() {
        let mut look = Look {
            cpu: Some(Duration::ZERO),
            each: vec![Seen { parks_and_unparks: 1, ..Seen::default() }; 4],
        };
        let mut load = Load::of(4, look.clone());
        let mut after = |cores: f64, looks: usize| {
            for _ in 0..looks {
                look.cpu = look.cpu.map(|cpu| cpu + LOOK_EVERY.mul_f64(cores));
                load.follow(look.clone(), LOOK_EVERY);
            }
            load.awake
        };
        assert_eq!(after(0.0, 24), 4, "it may be a pause");
        assert_eq!(after(0.0, 1), 2);
        assert_eq!(after(0.0, 25), 1, "one stays");
        assert_eq!(after(0.44, 100), 1, "that is done with ease");
        assert_eq!(after(0.9, 5), 2, "more get up soon");
        assert_eq!(after(0.5, 100), 2, "one would not do it with ease");
        assert_eq!(after(2.0, 10), 4, "all that there are");
        assert_eq!(after(0.9, 100), 4);
        assert_eq!(after(0.7, 20), 4);
        assert_eq!(after(1.0, 20), 4);
        assert_eq!(after(0.7, 20), 4, "it was not calm for long enough at once");
        assert_eq!(after(0.7, 100), 2);
        look.cpu = None;
        (0..10).for_each(|_| load.follow(look.clone(), LOOK_EVERY));
        assert_eq!(load.awake, 4, "nobody rests where it is not known who works");
    }

    #[test]
    fn those_that_are_stuck_count_at_once_and_those_that_sleep_or_rest_do_not() {
        let asleep = Seen { busy: Duration::from_secs(1), parks_and_unparks: 3, rests: 0 };
        let at_work = Seen { parks_and_unparks: 4, ..asleep };
        let rests = Seen { rests: 1, ..at_work };
        let look = |each: [Seen; 2]| Look { cpu: Some(Duration::ZERO), each: each.to_vec() };
        let mut load = Load { awake: 1, ..Load::of(2, look([asleep, rests])) };
        let mut after = |each| {
            load.follow(look(each), LOOK_EVERY);
            load.awake
        };
        assert_eq!(after([asleep, rests]), 1);
        assert_eq!(after([asleep, Seen { rests: 2, ..at_work }]), 1, "it has just got up");
        assert_eq!(after([asleep, Seen { rests: 3, ..at_work }]), 1, "it lies down again");
        assert_eq!(after([asleep, Seen { rests: 4, ..at_work }]), 1);
        assert_eq!(after([at_work, Seen { rests: 5, ..at_work }]), 1, "the other may have begun just now");
        assert_eq!(after([at_work, Seen { rests: 7, ..at_work }]), 2);
        assert!((0..100).all(|_| after([at_work, asleep]) == 2), "the other one must not rest meanwhile");
    }

    impl Beds {
        fn has_one_at_rest(&self) -> bool {
            self.rests().iter().any(|rests| rests % 2 == 1)
        }
    }

    fn spin(lasts: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < lasts {}
    }

    #[test]
    fn the_system_says_who_works() {
        let (runtime, threads) = start(3).expect("there are threads");
        let beds = Beds::new(3, LOOK_EVERY);
        let cpu = || threads.look(&beds).cpu.expect("it says");
        let before = cpu();
        let works = || {
            runtime.block_on(runtime.spawn(async { spin(LOOK_EVERY) })).expect("it did not panic");
            cpu() >= before + LOOK_EVERY
        };
        until("somebody works", || works().then_some(()));
    }

    /// A runtime with a little to do, of which one thread rests.
    fn with_one_at_rest(threads: usize) -> (Runtime, Watch) {
        let (runtime, threads) = start(threads).expect("there are threads");
        // They rest until somebody has them get up.
        let watch = Watch::start(runtime.handle(), threads, 100 * PATIENCE).expect("there are threads");
        runtime.spawn(async {
            loop {
                spin(Duration::from_millis(1));
                tokio::time::sleep(Duration::from_millis(9)).await;
            }
        });
        until("one rests", || watch.beds.has_one_at_rest().then_some(()));
        (runtime, watch)
    }

    #[test]
    fn who_waits_behind_a_task_that_holds_its_thread_is_served_by_one_that_gets_up() {
        let (runtime, _watch) = with_one_at_rest(2);
        let (sender, receiver) = mpsc::channel();
        let (begun, has_begun) = mpsc::channel();
        let holds = runtime.spawn(async move {
            let _ = begun.send(());
            receiver.recv_timeout(PATIENCE)
        });
        has_begun.recv_timeout(PATIENCE).expect("it begins");
        runtime.spawn(async move { sender.send(()) });
        let heard = runtime.block_on(holds).expect("it did not panic");
        heard.expect("the other one had its turn");
    }

    #[test]
    fn all_get_up_when_there_is_much_to_do() {
        let (runtime, watch) = with_one_at_rest(2);
        let busy = runtime.spawn(async {
            loop {
                spin(Duration::from_millis(1));
                yield_now().await;
            }
        });
        until("none rests", || (!watch.beds.has_one_at_rest()).then_some(()));
        busy.abort();
        until("one rests again", || watch.beds.has_one_at_rest().then_some(()));
    }

    /// Two ends of a connection that send a byte to and fro, and count.
    async fn plays(counts: Arc<AtomicU64>) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut near = TcpStream::connect(listener.local_addr()?).await?;
        let (mut far, _) = listener.accept().await?;
        tokio::spawn(unconstrained(async move {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() && far.write_all(&byte).await.is_ok() {}
        }));
        loop {
            near.write_all(&[1]).await?;
            near.read_exact(&mut [0]).await?;
            counts.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn sockets_and_timers_are_waited_for_whoever_rests() {
        for threads in [2, 4] {
            let (runtime, _) = start(threads).expect("there are threads");
            // Nobody gets up in between, as they do elsewhere.
            let beds = Arc::new(Beds::new(threads, 100 * PATIENCE));
            let _up = GetUp(beds.clone());
            let counts = Arc::new(AtomicU64::new(0));
            // It never gives up its turn, as it would when both ends are quick.
            let game = runtime.spawn(unconstrained(plays(counts.clone())));
            for round in 0..150 {
                beds.set_wanted(if round % 2 == 0 { threads - 1 } else { 0 }, runtime.handle());
                let before = counts.load(Ordering::Relaxed);
                until("the game goes on", || (counts.load(Ordering::Relaxed) >= before + 3).then_some(()));
                assert!(!game.is_finished());
                let timer = runtime.spawn(async { tokio::time::sleep(Duration::from_micros(100)).await });
                let rang = runtime.block_on(async { timeout(PATIENCE, timer).await });
                rang.expect("it rings").expect("it did not panic");
            }
        }
    }

    /// A runtime does not end before its threads get up.
    struct GetUp(Arc<Beds>);

    impl Drop for GetUp {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    #[test]
    fn a_task_that_always_gives_up_its_turn_goes_on_whoever_rests() {
        let (runtime, _) = start(2).expect("there are threads");
        let beds = Arc::new(Beds::new(2, Duration::from_millis(1)));
        let _up = GetUp(beds.clone());
        let counts = Arc::new(AtomicU64::new(0));
        let counted = counts.clone();
        runtime.spawn(async move {
            while counted.fetch_add(1, Ordering::Relaxed) < 100_000 {
                yield_now().await;
            }
        });
        let goes_on = || {
            beds.set_wanted(1, runtime.handle());
            (counts.load(Ordering::Relaxed) >= 100_000).then_some(())
        };
        until("it goes on", goes_on);
    }

    #[test]
    fn a_future_is_run_to_its_end() {
        let long = async {
            tokio::time::sleep(LOOK_EVERY * 3).await;
            tokio::spawn(async { 7 }).await.expect("it did not panic")
        };
        assert_eq!(run(long).expect("there are threads"), 7);
    }
}
