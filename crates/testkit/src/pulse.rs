//! How the machine kept up: a thread that writes a little every few milliseconds, as a node does, and notes how
//! long that took. What stalls it stalls the node too.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::wait;

/// Time between two beats.
const INTERVAL: Duration = Duration::from_millis(3);
/// Beats after which the same place of the file is written again.
const PLACES: u64 = 256;
/// What one beat writes.
const BYTES: [u8; 4096] = [7; 4096];

/// A pulse, taken until it is stopped.
#[derive(Debug)]
pub struct Pulse {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Beat>>,
}

/// One beat.
#[derive(Clone, Copy, Debug)]
struct Beat {
    due: Instant,
    done: Instant,
}

/// All beats of a story.
#[derive(Debug)]
pub struct Beats(Vec<Beat>);

impl Pulse {
    /// Takes the pulse on the disk of this folder.
    ///
    /// # Panics
    /// If nothing can be written there.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let file = File::create(folder.join("pulse")).expect("the folder is ours");
        let stopped = Arc::new(AtomicBool::new(false));
        let until = stopped.clone();
        let thread = thread::spawn(move || {
            let mut beats = Vec::new();
            for number in 0.. {
                let due = Instant::now() + INTERVAL;
                wait::pass(INTERVAL);
                let place = number % PLACES * BYTES.len() as u64;
                file.write_all_at(&BYTES, place).expect("there is room for a megabyte");
                beats.push(Beat { due, done: Instant::now() });
                if until.load(Ordering::SeqCst) {
                    break;
                }
            }
            beats
        });
        Self { stopped, thread }
    }

    /// Ends it; returns what was noted.
    ///
    /// # Panics
    /// If nothing could be written any more.
    #[must_use]
    pub fn stop(self) -> Beats {
        self.stopped.store(true, Ordering::SeqCst);
        Beats(self.thread.join().expect("it only writes"))
    }
}

impl Beats {
    /// The longest that a beat was late between these moments.
    #[must_use]
    pub fn stall(&self, from: Instant, to: Instant) -> Duration {
        let within = self.0.iter().filter(|beat| beat.due <= to && beat.done >= from);
        within.map(|beat| beat.done.saturating_duration_since(beat.due)).max().unwrap_or_default()
    }
}
