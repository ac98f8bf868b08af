//! What name servers have said, for as long as it counts; one question for many askers.
//!
//! A question that is asked goes on by itself, so that an asker who gives up takes nothing from the others. What has run out is kept
//! for a while, for when nobody answers (RFC 8767).

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::wire::{Found, Question, Source, Unanswered};

/// Answers that are kept at most.
const ANSWERS: usize = 1 << 17;
/// Questions under way at most; others wait for their turn.
const QUESTIONS: usize = 512;
/// No answer counts for less, so that no domain can make us ask all the time.
const SHORTEST: Duration = Duration::from_secs(5);
/// No answer counts for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What is not there may come to be at any time (RFC 2308, section 5).
const LONGEST_NOTHING: Duration = Duration::from_secs(3600);
/// How long it counts that there is nothing, where the zone does not say.
const NOTHING: Duration = Duration::from_secs(60);
/// How long it counts that nobody answers (RFC 9520, section 3.2).
const TROUBLE: Duration = Duration::from_secs(5);
/// How long an answer may still be used while nobody gives a new one (RFC 8767, section 5).
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How long it counts then.
const STALE_COUNTS: Duration = Duration::from_secs(30);
/// How long a new answer is waited for where there is a stale one (RFC 8767, section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What there is; an error says why nobody knows.
    pub(super) found: Result<Found, Unanswered>,
    /// How long it counts.
    pub(super) until: Timestamp,
}

/// Answers, and questions under way.
#[derive(Debug)]
pub(super) struct Cache {
    source: Box<dyn Source>,
    clock: Clock,
    turns: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: Generations,
    flights: HashMap<Question, Flight>,
}

type Flight = watch::Receiver<Option<Known>>;

/// Answers in two generations: when the young one is full it becomes the old one, and the old one goes. What is used stays.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Question, Entry>,
    old: HashMap<Question, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    /// Since when: it does not count before, should the clock go back.
    since: Timestamp,
    /// Until when it may be used at all.
    of_use: Timestamp,
}

/// A question that was asked; begun, whether anybody waits for it or not.
#[derive(Debug)]
pub(super) enum Asked {
    Known(Known),
    Waits { flight: Flight, stale: Option<Known> },
}

impl Cache {
    pub(super) fn new(source: Box<dyn Source>, clock: Clock) -> Self {
        Self { source, clock, turns: Semaphore::new(QUESTIONS), state: Mutex::default() }
    }

    /// Asks a question, unless the answer is known or on its way.
    pub(super) fn ask(self: &Arc<Self>, question: Question) -> Asked {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let entry = state.answers.find(&question).filter(|entry| entry.since <= now && now < entry.of_use);
        let stale = match entry {
            Some(entry) if now < entry.known.until => return Asked::Known(entry.known.clone()),
            Some(entry) => Some(Known { until: now + STALE_COUNTS, ..entry.known.clone() }),
            None => None,
        };
        if let Some(flight) = state.flights.get(&question) {
            return Asked::Waits { flight: flight.clone(), stale };
        }
        let (done, flight) = watch::channel(None);
        state.flights.insert(question.clone(), flight.clone());
        let cache = self.clone();
        tokio::spawn(async move {
            let known = cache.fetch(&question).await;
            // Those who asked may be gone.
            let _ = done.send(Some(known));
        });
        Asked::Waits { flight, stale }
    }

    async fn fetch(&self, question: &Question) -> Known {
        let answer = match self.turns.acquire().await {
            Ok(_turn) => self.source.ask(question).await,
            Err(closed) => Err(closed.to_string().into()),
        };
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.flights.remove(question);
        let entry = match answer {
            Ok(answer) => {
                let until = now + counts(&answer.found, answer.ttl);
                Entry { known: Known { found: Ok(answer.found), until }, since: now, of_use: until + STALE }
            }
            Err(why) => match state.answers.find(question) {
                Some(entry) if entry.known.found.is_ok() && now < entry.of_use => {
                    let mut entry = entry.clone();
                    entry.known.until = now + STALE_COUNTS;
                    entry
                }
                _ => {
                    let until = now + TROUBLE;
                    Entry { known: Known { found: Err(why), until }, since: now, of_use: until }
                }
            },
        };
        let known = entry.known.clone();
        state.answers.put(question.clone(), entry);
        known
    }
}

/// How long an answer counts, that its zone gives so long.
fn counts(found: &Found, ttl: Option<Duration>) -> Duration {
    match found {
        Found::Exchanges(_) | Found::Addresses(_) => ttl.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST),
        Found::Nothing | Found::NoName => ttl.unwrap_or(NOTHING).clamp(SHORTEST, LONGEST_NOTHING),
    }
}

impl Asked {
    /// The answer, once it is there.
    pub(super) async fn answer(self) -> Known {
        let (mut flight, stale) = match self {
            Self::Known(known) => return known,
            Self::Waits { flight, stale } => (flight, stale),
        };
        let mut landed = async || flight.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        let known = match &stale {
            Some(_) => timeout(STALE_PATIENCE, landed()).await.ok().flatten(),
            None => landed().await,
        };
        // Without either the runtime is about to end.
        known.or(stale).unwrap_or_else(|| Known {
            found: Err("the question was dropped".into()),
            until: Timestamp::default(),
        })
    }
}

impl Generations {
    fn find(&mut self, question: &Question) -> Option<&Entry> {
        if !self.young.contains_key(question) {
            let entry = self.old.remove(question)?;
            self.put(question.clone(), entry);
        }
        self.young.get(question)
    }

    fn put(&mut self, question: Question, entry: Entry) {
        if self.young.len() >= ANSWERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question, entry);
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;
    use tokio::sync::Notify;

    use super::*;
    use crate::resolver::wire::{Answer, Asking, Kind, Whose};

    /// Says what it is told to say, one answer a question, once it may.
    #[derive(Debug, Default)]
    struct Scripted {
        answers: Mutex<Vec<Result<Answer, Unanswered>>>,
        asked: Mutex<usize>,
        may: Notify,
    }

    impl Source for Arc<Scripted> {
        fn ask<'a>(&'a self, _: &'a Question) -> Asking<'a> {
            *self.asked.lock() += 1;
            Box::pin(async {
                self.may.notified().await;
                self.answers.lock().remove(0)
            })
        }
    }

    impl Scripted {
        fn says(&self, answer: Result<Answer, Unanswered>) {
            self.answers.lock().push(answer);
            self.may.notify_one();
        }
    }

    fn addresses(ttl: u64) -> Result<Answer, Unanswered> {
        let found = Found::Addresses(["192.0.2.1".parse().unwrap()].into());
        Ok(Answer { found, ttl: Some(Duration::from_secs(ttl)) })
    }

    fn question() -> Question {
        Question { name: "a.example".into(), kind: Kind::V4, whose: Whose::Public }
    }

    fn cache() -> (Arc<Scripted>, Arc<Cache>, ManualClock) {
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
        let source = Arc::new(Scripted::default());
        let cache = Arc::new(Cache::new(Box::new(source.clone()), clock.clock()));
        (source, cache, clock)
    }

    #[tokio::test]
    async fn many_ask_and_one_question_goes_out() {
        let (source, cache, _) = cache();
        let asked: Vec<Asked> = (0..10).map(|_| cache.ask(question())).collect();
        source.says(addresses(60));
        for one in asked {
            assert!(one.answer().await.found.is_ok());
        }
        assert_eq!(*source.asked.lock(), 1);
        assert!(cache.state.lock().flights.is_empty());
    }

    #[tokio::test]
    async fn an_answer_counts_for_its_time_within_bounds() {
        let (source, cache, clock) = cache();
        let nothing = |ttl| Ok(Answer { found: Found::NoName, ttl: Some(Duration::from_secs(ttl)) });
        for (answer, counts) in [
            (addresses(60), 60),
            (addresses(0), 5),
            (addresses(1 << 30), 86_400),
            (nothing(120), 120),
            (nothing(86_400), 3600),
            (Ok(Answer { found: Found::Nothing, ttl: None }), 60),
        ] {
            source.says(answer);
            let known = cache.ask(question()).answer().await;
            assert_eq!(known.until.since(clock.clock().now()).as_secs(), counts, "{known:?}");
            clock.advance(Duration::from_secs(counts - 1));
            let asked = *source.asked.lock();
            assert_eq!(cache.ask(question()).answer().await, known);
            assert_eq!(*source.asked.lock(), asked);
            // Past what may be used at all.
            clock.advance(STALE + Duration::from_secs(2));
        }
    }

    #[tokio::test]
    async fn what_has_run_out_is_used_while_nobody_answers_but_not_for_ever() {
        let (source, cache, clock) = cache();
        source.says(addresses(60));
        let known = cache.ask(question()).answer().await;
        clock.advance(Duration::from_secs(61));
        source.says(Err("silence".into()));
        let stale = cache.ask(question()).answer().await;
        assert_eq!(stale.found, known.found);
        assert_eq!(stale.until.since(clock.clock().now()), STALE_COUNTS);
        clock.advance(STALE + STALE_COUNTS);
        source.says(Err("silence".into()));
        assert_eq!(cache.ask(question()).answer().await.found, Err("silence".into()));
        clock.advance(TROUBLE);
        source.says(addresses(60));
        assert_eq!(cache.ask(question()).answer().await.found, known.found);
    }

    #[tokio::test]
    async fn a_stale_answer_does_not_wait_long_for_a_new_one() {
        let (source, cache, clock) = cache();
        source.says(addresses(60));
        let known = cache.ask(question()).answer().await;
        clock.advance(Duration::from_secs(61));
        assert_eq!(cache.ask(question()).answer().await.found, known.found);
        // The question is still under way; its answer is the next one's.
        assert_eq!(*source.asked.lock(), 2);
        source.says(Ok(Answer { found: Found::NoName, ttl: None }));
        assert_eq!(cache.ask(question()).answer().await.found, Ok(Found::NoName));
        assert_eq!(*source.asked.lock(), 2);
    }

    #[test]
    fn as_many_answers_are_kept_as_may_be_and_those_that_are_used_stay() {
        let known = Known { found: Ok(Found::Nothing), until: Timestamp::default() };
        let entry = Entry { known, since: Timestamp::default(), of_use: Timestamp::default() };
        let numbered = |n: usize| Question { name: n.to_string().into(), ..question() };
        let mut answers = Generations::default();
        for n in 0..ANSWERS * 2 {
            answers.put(numbered(n), entry.clone());
            assert!(answers.find(&numbered(0)).is_some());
            assert!(answers.young.len() + answers.old.len() <= ANSWERS);
        }
        assert!(answers.find(&numbered(1)).is_none());
    }
}
