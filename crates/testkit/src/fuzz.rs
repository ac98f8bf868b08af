//! Fuzzing without a compiler's help: inputs are made from seeds and words, and those that make a target do something new are built on.
//!
//! A target takes any bytes, panics where something is wrong, and returns what happened, in short; an input that makes something happen that
//! was not seen before joins the seeds. A usual run takes a fixed number of cases from a fixed start, so that it finds the same each time;
//! `POSTHOUSE_FUZZ_MINUTES` makes it run for so long, from a random start, which it prints. `cargo xtask fuzz` does.

use std::{
    any::Any,
    collections::HashSet,
    env,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Longest input that is made.
const MAX_INPUT: usize = 64 << 10;
/// Most inputs that are built on.
const MAX_POOL: usize = 4096;
/// Most changes from one input to the next.
const MAX_CHANGES: usize = 6;
/// Most times that a piece is repeated.
const MAX_REPEATS: usize = 300;
/// Most tries to make an input smaller that fails.
const MAX_TRIES: usize = 2000;
/// More time than this for one input is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// What inputs are made of.
#[derive(Clone, Debug)]
pub struct Fuzz<'f> {
    seeds: Vec<Vec<u8>>,
    words: Vec<&'f [u8]>,
    cases: usize,
}

impl<'f> Fuzz<'f> {
    /// From these seeds, whole inputs, and these words, which make sense to the target; a usual run takes so many cases.
    #[must_use]
    pub fn new(seeds: Vec<Vec<u8>>, words: &'f [&'f str], cases: usize) -> Self {
        Self { seeds, words: words.iter().map(|word| word.as_bytes()).collect(), cases }
    }

    /// Runs the target on one input after the other.
    ///
    /// # Panics
    /// If the target does; the input that made it, as small as it could be made, is printed.
    pub fn run<T: Hash>(&self, target: impl Fn(&[u8]) -> T) {
        let minutes = env::var("POSTHOUSE_FUZZ_MINUTES").ok();
        let minutes = minutes.map(|minutes| minutes.parse::<f64>().expect("a number of minutes"));
        let end = minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
        let start = if minutes.is_some() { fastrand::u64(..) } else { 1 };
        let mut maker = Maker {
            random: fastrand::Rng::with_seed(start),
            pool: self.seeds.iter().cloned().chain([Vec::new()]).collect(),
            words: &self.words,
        };
        let target = watched(target);
        let mut seen = HashSet::new();
        let mut cases = 0_usize;
        while end.map_or(cases < self.cases, |end| Instant::now() < end) {
            // The seeds themselves come first.
            let input = maker.pool.get(cases).filter(|_| cases <= self.seeds.len()).cloned();
            let input = input.unwrap_or_else(|| maker.input());
            let began = Instant::now();
            let happened = catch_unwind(AssertUnwindSafe(|| hash(&target(&input))));
            let happened = happened.unwrap_or_else(|panic| fail(&input, start, panic, &target));
            assert!(began.elapsed() < PATIENCE, "{:?} for \"{}\"", began.elapsed(), input.escape_ascii());
            if seen.insert(happened) {
                maker.keep(input);
            }
            cases += 1;
        }
        eprintln!("{cases} cases from start {start}, in which {} different things happened", seen.len());
    }
}

/// The target, which panics also if another thread does meanwhile.
fn watched<T>(target: impl Fn(&[u8]) -> T) -> impl Fn(&[u8]) -> T {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The first one tells; those of smaller inputs would bury it.
        if PANICS.fetch_add(1, Ordering::SeqCst) == 0 {
            hook(info);
        }
    }));
    move |input| {
        let before = PANICS.load(Ordering::SeqCst);
        let happened = target(input);
        assert_eq!(PANICS.load(Ordering::SeqCst), before, "a thread has panicked");
        happened
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Prints the input that made the target panic, as small as it can be made, and panics on.
fn fail<T>(input: &[u8], start: u64, panic: Box<dyn Any + Send>, target: &impl Fn(&[u8]) -> T) -> ! {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| drop(target(input)))).is_err();
    let mut small = input.to_vec();
    let mut piece = small.len().div_ceil(2);
    let mut tries = 0;
    while piece > 0 {
        let mut at = 0;
        while at < small.len() && tries < MAX_TRIES {
            let mut less = small.clone();
            less.drain(at..(at + piece).min(small.len()));
            tries += 1;
            if fails(&less) { small = less } else { at += piece }
        }
        piece /= 2;
    }
    eprintln!("start {start}; this input fails: b\"{}\"", small.escape_ascii());
    resume_unwind(panic)
}

/// Makes inputs.
struct Maker<'f> {
    random: fastrand::Rng,
    pool: Vec<Vec<u8>>,
    words: &'f [&'f [u8]],
}

impl Maker<'_> {
    fn input(&mut self) -> Vec<u8> {
        let mut input = self.random.choice(&self.pool).cloned().unwrap_or_default();
        for _ in 0..self.random.usize(1..=MAX_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let from = self.random.usize(..=input.len());
        let length = self.random.usize(..=(input.len() - from).min(40));
        let range = from..from + length;
        match self.random.u8(..8) {
            0 | 1 => drop(input.splice(from..from, self.word())),
            2 => drop(input.splice(range, self.word())),
            3 => drop(input.drain(range)),
            4 => {
                let other = self.random.choice(&self.pool).cloned().unwrap_or_default();
                let begin = self.random.usize(..=other.len());
                drop(input.splice(from.., other[begin..].iter().copied()));
            }
            5 => {
                let piece = input[range].repeat(self.random.usize(1..MAX_REPEATS));
                drop(input.splice(from..from, piece.into_iter().take(MAX_INPUT)));
            }
            6 => {
                let bytes: Vec<u8> = (0..self.random.usize(1..9)).map(|_| self.random.u8(..)).collect();
                drop(input.splice(from..from, bytes));
            }
            _ => {
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= 1 << self.random.u8(..8);
                }
            }
        }
    }

    fn word(&mut self) -> Vec<u8> {
        self.random.choice(self.words).map(|word| word.to_vec()).unwrap_or_default()
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.pool.len() < MAX_POOL {
            self.pool.push(input);
        } else {
            let place = self.random.usize(..MAX_POOL);
            self.pool[place] = input;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_behind_steps_is_found_by_building_on_what_was_new() {
        let fuzz = Fuzz::new(Vec::new(), &["a", "b", "c", "d"], 20_000);
        let found = catch_unwind(|| {
            fuzz.run(|input| {
                let depth = input.iter().zip(b"abcdabcd").take_while(|(one, other)| one == other).count();
                assert!(depth < 8, "found");
                depth
            });
        });
        assert!(found.is_err());
    }
}
