//! The demo: a manager and two workers with throw-away data, a sink behind them, sample traffic before them, and somebody who
//! kills a worker.

mod keys;
mod scene;
mod summary;
mod table;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::ListenAddress,
    fleet::{Account, Fleet, FleetError, Interrupts, Layout, Load, Pace, Sample, start_sink},
    sink::Thinks,
};
use keys::{Key, Keys};
use scene::Scene;
pub use summary::Form;
use summary::Summary;

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the manager takes mail in.
    pub smtp: ListenAddress,
    /// The workers beside it.
    pub workers: usize,
    /// Messages a second that the sample traffic aims at.
    pub rate: u32,
    /// When to end by itself.
    pub lasts: Option<Duration>,
    /// How the summary is shown.
    pub form: Form,
}

/// How the demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was accepted has come, or waits.
    Good,
    /// So many recipients were lost.
    Lost(u64),
}

/// How often the demo looks at its nodes.
const GLANCE: Duration = Duration::from_millis(250);
/// How often it shows a line; a table is drawn at every glance.
const EVERY: Duration = Duration::from_secs(1);
/// Where nobody can press a key, and the demo has no end, it kills a worker so often by itself.
const BY_ITSELF: Duration = Duration::from_secs(15);
/// How long the nodes may take, after the traffic has ended, to deliver what they have.
const DRAIN: Duration = Duration::from_secs(3);
/// How long after a kill what the worker had may take to go elsewhere.
const TAKEOVER: Duration = Duration::from_secs(9);
/// How many messages are to be under way at a time.
const UNDER_WAY: u64 = 40;
/// How long the sink thinks before a text at most.
const LONGEST_THOUGHT: Duration = Duration::from_millis(200);
/// Quick, so that deferred mail is seen to go.
const RETRY: &str = "2s";
/// The console of a node that has its default port.
const CONSOLE: u16 = 8025;

/// Where the mail goes.
const SAMPLE: Sample = &[
    ("example.com", 60),
    ("example.net", 25),
    ("example.org", 10),
    ("busy.example", 4),
    ("gone.example", 1),
];

/// Runs the demo until Ctrl-C, until its terminal is closed, or until its time is over.
///
/// # Errors
/// A node does not come to run, or has ended by itself.
pub async fn run(options: Options) -> Result<Ending, FleetError> {
    let mut interrupts = Interrupts::new()?;
    let account = Arc::new(Account::new(options.workers + 1));
    let sink = start_sink(&account, thinks(options.rate)).await?;
    let layout = Layout {
        workers: options.workers,
        smtp: options.smtp.0,
        console: SocketAddr::from((Ipv4Addr::LOCALHOST, CONSOLE)),
        sink: sink.address(),
        retry: RETRY,
        prefix: "posthouse-demo-",
    };
    let fleet = tokio::select! {
        fleet = Fleet::start(layout) => fleet?,
        () = interrupts.next() => return Err(FleetError::Interrupted),
    };
    let mut scene = Scene::new(fleet, account);
    let mut keys = Keys::start(options.form);
    let mut summary = Summary::new(options.form, keys.are_read());
    summary.welcome(&scene);
    let load = Load::start(&scene.fleet().doors(), Pace::Rate(options.rate), SAMPLE, scene.account());
    let began = Instant::now();
    let mut kills = Kills::new(&options, keys.are_read());
    let mut ticks = tokio::time::interval(GLANCE);
    ticks.tick().await;
    while options.lasts.is_none_or(|lasts| began.elapsed() < lasts) {
        tokio::select! {
            () = interrupts.next() => break,
            key = keys.next() => match key {
                Key::Kill => scene.kill()?,
                Key::End => break,
            },
            _ = ticks.tick() => {}
        }
        if kills.is_time(began.elapsed()) {
            scene.kill()?;
        }
        scene.look().await?;
        summary.show(&mut scene);
    }
    summary.ending();
    load.stop().await;
    tokio::select! {
        drained = drain(&mut scene, &mut summary) => drained?,
        // Who asks again does not want to wait.
        () = interrupts.next() => {}
    }
    // Nothing moves any more, so the sums add up.
    scene.fleet().stop_workers().await;
    scene.look().await?;
    let lost = scene.fleet().missing(scene.account()).await?.len() as u64;
    summary.sums(&mut scene, lost);
    Ok(if lost == 0 { Ending::Good } else { Ending::Lost(lost) })
}

/// How long the sink thinks, so that at any time some messages are under way, and a node that is killed had some.
fn thinks(rate: u32) -> Thinks {
    let text = LONGEST_THOUGHT.min(Duration::from_secs(UNDER_WAY) / rate);
    // What is killed after its final dot comes twice, as it does with every mail server.
    Thinks { text, dot: text / 10 }
}

/// Waits until the nodes have delivered what they have, for a while.
async fn drain(scene: &mut Scene, summary: &mut Summary) -> Result<(), FleetError> {
    let until = Instant::now() + DRAIN;
    let taken_over = scene.last_kill().map(|at| at + TAKEOVER);
    let until = taken_over.map_or(until, |at| at.max(until));
    while Instant::now() < until {
        scene.look().await?;
        summary.show(scene);
        if scene.queued() == 0 {
            break;
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// When the demo kills a worker by itself.
struct Kills {
    next: Option<Duration>,
    every: Option<Duration>,
}

impl Kills {
    /// Not where somebody can press a key; else once halfway, or again and again.
    fn new(options: &Options, keys: bool) -> Self {
        match options.lasts {
            _ if keys => Self { next: None, every: None },
            Some(lasts) => Self { next: Some(lasts / 2), every: None },
            None => Self { next: Some(BY_ITSELF), every: Some(BY_ITSELF) },
        }
    }

    fn is_time(&mut self, now: Duration) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        self.next = self.every.map(|every| now + every);
        true
    }
}
