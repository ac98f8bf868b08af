//! A worker, or the manager, is killed under load: how long until its work goes on, and what is lost or comes twice.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    super::{process::Interrupt, taker::Taker, targets::Verdict},
    group::{Group, Shape},
    senders::{Senders, Sent},
};

/// What is done under load, and how much of it there is.
pub(super) struct Deaths<'d> {
    /// The program.
    pub(super) program: &'d Path,
    /// Messages a second that are offered.
    pub(super) rate: f64,
    /// More options for `posthouse up`.
    pub(super) up: &'d [String],
    /// Ends it.
    pub(super) interrupt: &'d Interrupt,
}

/// When silence means what.
#[derive(Clone, Copy)]
pub(super) struct Liveness {
    /// Whose verdicts these are.
    pub(super) name: &'static str,
    /// What stands in the manager's file.
    pub(super) file: &'static str,
    /// After so much silence a node is gone.
    pub(super) gone: Duration,
    /// So much later its work has to be elsewhere.
    pub(super) within: Duration,
}

/// As nodes have it by themselves.
pub(super) const USUAL: Liveness = Liveness {
    name: "c: a worker is killed",
    file: "cluster.after-loss = '10s'",
    gone: Duration::from_secs(15),
    within: Duration::from_secs(1),
};

/// What came of the messages, by the next hop's count.
struct Account {
    accepted: usize,
    lost: usize,
    twice: usize,
    longest_wait: Duration,
    broken: usize,
}

/// A group under load.
struct Scene {
    group: Group,
    senders: Senders,
    taker: Taker,
}

impl Deaths<'_> {
    fn begin(&self, file: &str) -> Result<Scene> {
        let taker = Taker::slow(ANSWERS_AFTER)?;
        let file = format!("{MANY_CONNECTIONS}\n{file}");
        let shape = Shape {
            program: self.program,
            workers: 2,
            next_hop: taker.port(),
            file: &file,
            level: "info",
            up: self.up,
        };
        let group = Group::start(&shape, self.interrupt)?;
        let senders = Senders::start(group.doors(), SESSIONS, self.rate);
        self.interrupt.pause(A_WHILE)?;
        ensure!(senders.count() > 0, "no message was taken");
        Ok(Scene { group, senders, taker })
    }

    /// Kills a worker; its work is elsewhere in good time, and nothing is lost.
    ///
    /// # Errors
    /// Something did not start, ended by itself, or was interrupted.
    pub(super) fn of_a_worker(&self, liveness: Liveness) -> Result<(String, Vec<Verdict>)> {
        let Scene { mut group, senders, taker } = self.begin(liveness.file)?;
        let at = group.workers[0].kill()?;
        senders.turn_to(group.doors().split_off(1));
        let gone = group.manager.wait_for_line("a node is gone", at, self.interrupt)?;
        // What may have been delivered goes later than what was not.
        let later = gone.at + AFTER_LOSS;
        self.interrupt.pause((later + A_WHILE).saturating_duration_since(Instant::now()))?;
        let sent = senders.stop(self.interrupt)?;
        group.wait_until_empty(self.interrupt)?;
        self.interrupt.pause(UNTIL_IT_IS_LOGGED)?;
        let came = came(&taker);
        let (mut last, mut moved, mut waited) = (gone.at, 0, 0);
        let open = sent.accepted.iter().filter(|message| message.at < at);
        let mut unmarked = 0;
        for (recipient, arrivals) in
            open.filter_map(|message| Some((&message.recipient, came.get(&message.recipient)?)))
        {
            // What waits may have been delivered, and says so.
            if arrivals.iter().any(|arrival| *arrival >= later) {
                waited += 1;
                unmarked += usize::from(!group.has_marked(recipient)?);
            }
            for arrival in arrivals.iter().filter(|arrival| (gone.at..later).contains(arrival)) {
                (moved, last) = (moved + 1, last.max(*arrival));
            }
        }
        // What came twice was under way when its node died, came the second time after its wait, and says so.
        let mut unexplained = 0;
        for (recipient, arrivals) in came.iter().filter(|(_, arrivals)| arrivals.len() > 1) {
            let is_of_the_dead =
                is_around(arrivals[0], at) && arrivals[1..].iter().all(|arrival| *arrival >= later);
            unexplained += usize::from(!is_of_the_dead || !group.has_marked(recipient)?);
        }
        let account = Account::of(&sent, &came);
        let took = last.duration_since(at).as_secs_f64();
        let text = format!(
            "{}: found gone after {:.2} s; {moved} works of its went elsewhere, the last after {took:.2} s; {waited} that it may have \
             delivered waited for another {} s and went again. {}",
            liveness.name,
            gone.at.duration_since(at).as_secs_f64(),
            AFTER_LOSS.as_secs(),
            account.line(),
        );
        eprintln!("xtask {text}");
        let most = (liveness.gone + liveness.within).as_secs_f64();
        let verdicts = vec![
            Verdict::at_least(liveness.name, "works go elsewhere", count(moved), 1.0),
            Verdict::at_most(liveness.name, "s until its work is elsewhere", took, most),
            Verdict::at_most(liveness.name, "waited that were not committing", count(unmarked), 0.0),
            Verdict::at_most(
                liveness.name,
                "come twice that were not committing, or have no mark",
                count(unexplained),
                0.0,
            ),
            account.lost(liveness.name),
        ];
        Ok((text, verdicts))
    }

    /// Kills the manager again and again; its workers come back in good time, clients wait, and nothing is lost.
    ///
    /// # Errors
    /// Something did not start, ended by itself, or was interrupted.
    pub(super) fn of_the_manager(&self) -> Result<(String, Vec<Verdict>)> {
        let Scene { mut group, senders, taker } = self.begin("")?;
        let (mut longest, mut backs, mut kills) = (0.0_f64, Vec::new(), Vec::new());
        for away in AWAY {
            let at = group.manager.kill()?;
            kills.push(at);
            self.interrupt.pause(away)?;
            group.manager.restart()?;
            let ready = group.manager.wait_for_line("the spool is ready", at, self.interrupt)?.at;
            for worker in &mut group.workers {
                let linked = worker.wait_for_line("is a worker of its manager now", at, self.interrupt)?;
                let back = linked.at.saturating_duration_since(ready).as_secs_f64();
                longest = longest.max(back);
                backs.push(format!("{back:.2}"));
            }
            self.interrupt.pause(A_WHILE)?;
        }
        let sent = senders.stop(self.interrupt)?;
        group.wait_until_empty(self.interrupt)?;
        let came = came(&taker);
        let account = Account::of(&sent, &came);
        // A manager may forget what it noted last, so that there is no mark.
        let is_explained =
            |pair: &[Instant]| kills.iter().any(|at| is_around(pair[0], *at) && pair[1] >= *at);
        let unexplained = came.values().filter(|arrivals| !arrivals.windows(2).all(is_explained)).count();
        let text = format!(
            "{MANAGER}: {} times, each time away for longer; workers back {} s after its spool was ready. {}",
            AWAY.len(),
            backs.join(", "),
            account.line(),
        );
        eprintln!("xtask {text}");
        for what in sent.broken.iter().take(SHOWN) {
            eprintln!("xtask a session broke: {what}");
        }
        let verdicts = vec![
            Verdict::at_most(MANAGER, "s until its workers are back", longest, BACK.as_secs_f64()),
            Verdict::at_most(MANAGER, "sessions break", count(account.broken), 0.0),
            Verdict::at_most(MANAGER, "come twice that were not committing", count(unexplained), 0.0),
            account.lost(MANAGER),
        ];
        Ok((text, verdicts))
    }
}

/// Whether what came then was between its permit and its conclusion when a node was killed.
fn is_around(arrival: Instant, kill: Instant) -> bool {
    arrival + AROUND >= kill && arrival <= kill + AROUND
}

/// When each recipient's message came.
fn came(taker: &Taker) -> HashMap<String, Vec<Instant>> {
    let mut came: HashMap<_, Vec<_>> = HashMap::new();
    for taken in taker.all() {
        came.entry(taken.recipient).or_default().push(taken.at);
    }
    came
}

impl Account {
    fn of(sent: &Sent, came: &HashMap<String, Vec<Instant>>) -> Self {
        Self {
            accepted: sent.accepted.len(),
            lost: sent.accepted.iter().filter(|message| !came.contains_key(&message.recipient)).count(),
            twice: came.values().filter(|arrivals| arrivals.len() > 1).count(),
            longest_wait: sent.accepted.iter().map(|message| message.wait).max().unwrap_or_default(),
            broken: sent.broken.len(),
        }
    }

    fn line(&self) -> String {
        let Self { accepted, lost, twice, longest_wait, broken } = self;
        let wait = longest_wait.as_secs_f64();
        format!(
            "{accepted} accepted, {lost} lost, {twice} came twice, {broken} sessions broke, longest wait for a 250 {wait:.2} s."
        )
    }

    fn lost(&self, name: &str) -> Verdict {
        Verdict::at_most(name, "messages lost", count(self.lost), 0.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

const MANAGER: &str = "d: the manager is killed";

const SESSIONS: u32 = 20;

/// The next hop answers so late, so that nodes have something in their hands when they die.
const ANSWERS_AFTER: Duration = Duration::from_millis(20);

/// Enough of them that a next hop that answers late takes all that is offered, also with one node less.
const MANY_CONNECTIONS: &str = "delivery.connections = 200";

/// The message log follows the queue by a moment.
const UNTIL_IT_IS_LOGGED: Duration = Duration::from_secs(1);

/// How long there is load before and after.
const A_WHILE: Duration = Duration::from_secs(3);

/// As the files above have it.
const AFTER_LOSS: Duration = Duration::from_secs(10);

/// How long the manager is away, so that its workers wait for longer and longer.
const AWAY: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(6)];

/// Workers are back after this at most.
const BACK: Duration = Duration::from_secs(3);

/// How far from a kill an arrival may lie that was under way then: 50 ms in the spool, and what a busy machine adds.
const AROUND: Duration = Duration::from_millis(500);

/// Broken sessions that are shown.
const SHOWN: usize = 5;
