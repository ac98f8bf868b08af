//! The demo: a node with throwaway data, a sink behind it, sample traffic before it.

mod summary;
mod traffic;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use base::{HumanDuration, NextHop, RetryPlan};
use smtp::{Address, Reply};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, ListenAddress},
    control::NodeView,
    node::{Node, NodeError, Source},
    sink::{Behaviour, Sink},
};
pub use summary::Form;
use summary::Summary;
use traffic::Traffic;

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the node takes mail in.
    pub smtp: ListenAddress,
    /// Messages a second that the sample traffic aims at.
    pub rate: u32,
    /// When to end by itself.
    pub lasts: Option<Duration>,
    /// How the summary is shown.
    pub form: Form,
}

/// How often the summary is shown.
const EVERY: Duration = Duration::from_secs(1);
/// How long the node may take, after the traffic has ended, to deliver what it has.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const GLANCE: Duration = Duration::from_millis(50);
/// The demo's retry plan: quick, so that deferred mail is seen to go.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the demo until Ctrl-C, or until its time is over.
///
/// # Errors
/// The node cannot start, or had to stop.
pub async fn run(options: Options) -> Result<(), NodeError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new().prefix("posthouse-demo-").tempdir()?;
    let sink = Sink::start(loopback(0), Behaviour { judge: Arc::new(judge), ..Behaviour::default() }).await?;
    let mut config = config(folder.path(), &options, sink.address());
    let node = match Node::start(config.clone(), fixed(&config)).await {
        // Somebody has the port already; any other will do for a demo.
        Err(NodeError::Listen(error)) if error.source.kind() == io::ErrorKind::AddrInUse => {
            config.smtp.listen = vec![ListenAddress(loopback(0))];
            config.console.listen = ListenAddress(loopback(0));
            Node::start(config.clone(), fixed(&config)).await?
        }
        started => started?,
    };
    let smtp = node.smtp()[0];
    let mut summary = Summary::new(options.form);
    summary.welcome(smtp, node.console(), folder.path());
    let traffic = Traffic::start(smtp, options.rate);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.tick().await;
    let failure = loop {
        tokio::select! {
            _ = interrupt.recv() => break None,
            _ = terminate.recv() => break None,
            error = node.failed() => break Some(error),
            _ = ticks.tick() => {}
        }
        if let Ok(status) = node.view().status().await {
            summary.show(&status);
        }
        if options.lasts.is_some_and(|lasts| began.elapsed() >= lasts) {
            break None;
        }
    };
    let lasted = began.elapsed();
    summary.ending();
    let sent = traffic.stop().await;
    tokio::select! {
        () = drain(&node) => {}
        // Who asks again does not want to wait.
        _ = interrupt.recv() => {}
    }
    let view = node.view().clone();
    let stopped = node.stop().await;
    // Nothing moves any more, so the sums add up.
    if let Ok(status) = view.status().await {
        summary.sums(&status, sent, lasted);
    }
    drop(sink);
    match failure {
        Some(error) => Err(error.into()),
        None => stopped,
    }
}

/// Waits until the node has delivered what it has, for a while.
async fn drain(node: &Node) {
    let until = Instant::now() + DRAIN;
    while Instant::now() < until {
        match node.view().status().await {
            Ok(status) if status.queued > 0 => tokio::time::sleep(GLANCE).await,
            _ => return,
        }
    }
}

fn config(dir: &std::path::Path, options: &Options, sink: SocketAddr) -> Config {
    let mut config = Config { data_dir: Some(dir.join("data")), ..Config::default() };
    config.smtp.listen = vec![options.smtp];
    let next_hop: NextHop = sink.to_string().parse().expect("a socket's address is a next hop");
    config.delivery.smarthost = Some(next_hop);
    config.delivery.retry =
        RetryPlan::try_from(vec![HumanDuration(RETRY)]).expect("two seconds are long enough");
    config
}

/// Read again, the demo's configuration is what it was: it has no file.
fn fixed(config: &Config) -> Source {
    let config = config.clone();
    Box::new(move || Ok(config.clone()))
}

/// The sink's moods: it takes nearly everybody.
fn judge(recipient: &Address) -> Option<Reply> {
    match recipient.domain() {
        "gone.example" => Some(Reply::new(550, (5, 1, 1), "nobody of this name lives here")),
        "busy.example" if fastrand::u8(..3) > 0 => Some(Reply::new(450, (4, 2, 1), "busy, come back later")),
        _ => None,
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
