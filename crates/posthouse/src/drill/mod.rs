//! The drill: a cluster under load whose nodes are killed, frozen and stopped by a plan, and what must hold in the end.

mod faults;
mod plan;
mod report;
mod screen;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    api::{LogQuery, LogRecord},
    fleet::{
        Account, Fleet, FleetError, Interrupts, Key, Layout, Load, Mark, Pace, Sample, Spell, start_sink,
        unexplained,
    },
    sink::Thinks,
};
use faults::Happened;
pub use plan::Fault;
pub use report::Report;
use report::{Duplicated, FaultReport, LongestPause, NodeReport, Unanswered};
use screen::Screen;

/// What the drill is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workers beside the manager.
    pub workers: usize,
    /// How long clients send and things happen.
    pub lasts: Duration,
    /// What decides which faults happen, and when.
    pub seed: u64,
    /// How fast clients send.
    pub pace: Clients,
    /// What may happen.
    pub faults: Vec<Fault>,
}

/// How fast clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// So many messages a second in all.
    Rate(u32),
    /// As fast as they are answered, so many sessions at a time.
    Sessions(u32),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The account.
    pub report: Report,
    /// Where all that the nodes wrote was left, because something was lost or still waits.
    pub left: Option<PathBuf>,
}

/// How often the drill looks around.
const GLANCE: Duration = Duration::from_millis(100);
/// How long all that was accepted may take to come to its end, once nothing happens any more.
const QUIET: Duration = Duration::from_secs(90);
/// How long the sink thinks: there is always something under way when a fault comes, before the final dot and after it.
const THINKS: Thinks = Thinks { text: Duration::from_millis(10), dot: Duration::from_millis(10) };
/// Quick, so that deferred mail is seen to go.
const RETRY: &str = "300ms,1s";
/// The most records that are asked for at once.
const MOST_RECORDS: u32 = 100_000;

/// Where the mail goes. Nobody is refused for good, so that all must come.
const SAMPLE: Sample = &[("example.com", 57), ("example.net", 25), ("example.org", 15), ("busy.example", 3)];

/// Runs the drill; Ctrl-C ends it, and so does a terminal that is closed.
///
/// # Errors
/// The cluster does not come to run, a node has ended by itself, or somebody has interrupted it.
pub async fn run(options: Options) -> Result<Outcome, FleetError> {
    let mut interrupts = Interrupts::new()?;
    tokio::select! {
        outcome = rehearse(&options) => outcome,
        () = interrupts.next() => Err(FleetError::Interrupted),
    }
}

async fn rehearse(options: &Options) -> Result<Outcome, FleetError> {
    let account = Arc::new(Account::new(options.workers + 1));
    let sink = start_sink(&account, THINKS).await?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let layout = Layout {
        workers: options.workers,
        smtp: anywhere,
        console: anywhere,
        sink: sink.address(),
        retry: RETRY,
        prefix: "posthouse-drill-",
    };
    let screen = Screen::new(options.lasts);
    screen.phase("starts the nodes");
    let fleet = Fleet::start(layout).await?;
    match under_load(options, &fleet, &account, &screen).await {
        Ok(report) if report.is_good() => Ok(Outcome { report, left: None }),
        Ok(report) => Ok(Outcome { report, left: Some(fleet.keep()) }),
        Err(error) => Err(error),
    }
}

async fn under_load(
    options: &Options,
    fleet: &Fleet,
    account: &Arc<Account>,
    screen: &Screen,
) -> Result<Report, FleetError> {
    let pace = match options.pace {
        Clients::Rate(rate) => Pace::Rate(rate),
        Clients::Sessions(sessions) => Pace::Sessions(sessions),
    };
    let load = Load::start(&fleet.doors(), pace, SAMPLE, account);
    let mut plan = plan::plan(options).into_iter().peekable();
    let (mut under_way, mut happened) = (JoinSet::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < options.lasts || plan.peek().is_some() || !under_way.is_empty() {
        while let Some(planned) = plan.next_if(|planned| planned.at <= began.elapsed()) {
            let member = fleet.members()[planned.node].clone();
            screen.happens(&planned, member.name());
            under_way.spawn(faults::happen(planned, member, account.clone()));
        }
        tokio::select! {
            Some(ended) = under_way.join_next() => happened.push(ended.expect("faults do not panic")?),
            () = tokio::time::sleep(GLANCE) => {}
        }
        fleet.check()?;
        screen.shows(began.elapsed(), &account.sums());
    }
    screen.phase("waits until all that was accepted has come to its end");
    load.stop().await;
    quiet(fleet).await?;
    happened.sort_by_key(|happened| happened.planned.at);
    screen.end();
    report(options, fleet, account, &happened).await
}

/// Waits until nothing waits any more, for a while: if something still does, the report says so.
async fn quiet(fleet: &Fleet) -> Result<(), FleetError> {
    let until = Instant::now() + QUIET;
    loop {
        fleet.check()?;
        let status = fleet.manager().client().status().await?;
        if status.queued == 0 && status.records.behind == 0 || Instant::now() > until {
            return Ok(());
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn report(
    options: &Options,
    fleet: &Fleet,
    account: &Account,
    happened: &[Happened],
) -> Result<Report, FleetError> {
    let bounced = bounced(fleet).await?;
    let mut missing = fleet.missing(account).await?;
    missing.retain(|key| !bounced.contains(key));
    let status = fleet.manager().client().status().await?;
    let sums = account.sums();
    let (intake, delivery) = account.pauses();
    let node = |(member, node): (&Arc<_>, &_)| NodeReport::new(member, node);
    Ok(Report {
        seed: options.seed,
        workers: options.workers,
        seconds: options.lasts.as_secs(),
        accepted: sums.accepted,
        delivered: sums.delivered,
        bounced: bounced.len() as u64,
        queued: status.queued,
        lost: missing.len() as u64,
        lost_recipients: missing.iter().map(|key| key.local()).collect(),
        duplicated: duplicated(fleet, account, happened).await?,
        unanswered: Unanswered { sent: sums.unanswered, delivered: account.came_unanswered() },
        deferred: sums.deferred,
        longest_pause: LongestPause::new(intake, delivery),
        nodes: fleet.members().iter().zip(&sums.nodes).map(node).collect(),
        faults: happened.iter().map(|happened| FaultReport::new(happened, fleet, account)).collect(),
    })
}

/// The recipients that have ended otherwise than by delivery, of which the sink knows nothing.
async fn bounced(fleet: &Fleet) -> Result<Vec<Key>, FleetError> {
    let mut keys = Vec::new();
    for word in ["failed", "expired", "cancelled", "lost"] {
        let query = LogQuery { what: Some(word.into()), limit: Some(MOST_RECORDS), ..LogQuery::default() };
        let records = fleet.manager().client().log(&query).await?;
        keys.extend(records.iter().filter_map(|record| Key::of(&record.recipient.parse().ok()?)));
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// What came more than once, and what the message log and the faults say of it.
async fn duplicated(
    fleet: &Fleet,
    account: &Account,
    happened: &[Happened],
) -> Result<Duplicated, FleetError> {
    let spells: Vec<Spell> = happened.iter().filter_map(Happened::spell).collect();
    let mut duplicated = Duplicated::default();
    for (key, comings) in account.duplicates() {
        duplicated.recipients += 1;
        let query = LogQuery { recipient: Some(format!("{}@*", key.local())), ..LogQuery::default() };
        let mark = mark(&fleet.manager().client().log(&query).await?);
        if mark == Mark::There {
            duplicated.marked += 1;
        } else {
            let pairs = comings.windows(2).map(|pair| report::twice(key, pair[0], pair[1], fleet));
            duplicated.unmarked.extend(pairs);
        }
        for (first, second) in unexplained(&comings, &spells, mark) {
            duplicated.unexplained.push(report::twice(key, first, second, fleet));
        }
    }
    Ok(duplicated)
}

/// What the records of a recipient say of it.
fn mark(records: &[LogRecord]) -> Mark {
    let mut conclusions = records.iter().filter_map(|record| record.conclusion.as_ref());
    if conclusions.any(|conclusion| conclusion.possible_duplicate) { Mark::There } else { Mark::Missing }
}
