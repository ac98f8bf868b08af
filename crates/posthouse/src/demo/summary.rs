//! What the demo shows: how to take part, how it stands, and the sums.

use std::{
    env,
    io::{IsTerminal, Write as _, stdout},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    EVERY,
    scene::{Event, Scene},
    table::{Live, nodes},
};
use crate::{fleet::Sums, output};

/// How the summary is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug)]
pub(super) struct Summary {
    form: Form,
    /// The table of one who can press keys.
    live: Option<Live>,
    lines: u64,
    began: Instant,
    next: Duration,
}

/// How it stands, as a line of JSON. Counts are recipients of the sample traffic.
#[derive(Debug, Serialize)]
struct Line {
    seconds: f64,
    accepted: u64,
    delivered: u64,
    deferred: u64,
    bounced: u64,
    queued: u64,
    lost: u64,
    came_twice: u64,
    nodes: Vec<NodeLine>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct NodeLine {
    name: String,
    state: String,
    accepted: u64,
    delivered: u64,
}

/// The column heads are shown again after so many lines.
const HEADS_EVERY: u64 = 20;

impl Summary {
    /// `keys`: whether somebody can press some.
    pub(super) fn new(form: Form, keys: bool) -> Self {
        Self { form, live: keys.then(Live::default), lines: 0, began: Instant::now(), next: EVERY }
    }

    pub(super) fn welcome(&self, scene: &Scene) {
        if self.form == Form::Json {
            return;
        }
        let fleet = scene.fleet();
        let (smtp, data) = (fleet.manager().door(), fleet.manager().data_dir().display());
        let others: Vec<String> =
            fleet.workers().iter().map(|worker| format!("{} ({})", worker.door(), worker.name())).collect();
        say(&format!(
            "A manager and {workers} run here, with throw-away data in {folder}.\n\
             Sample traffic comes in by SMTP at {smtp} (mx1, the manager), {others},\n\
             and goes out to a sink that defers a little and refuses less.\n\
             \n\
             Send a message of your own to any of them, and see what became of it:\n\
             \n  \
             curl --crlf smtp://{smtp} --mail-from me@sender.example --mail-rcpt you@example.com -T README.md\n  \
             swaks --server 127.0.0.1:{port} --from me@sender.example --to you@example.com\n  \
             {program} mail log --data-dir {data} --recipient you@example.com\n  \
             {program} nodes list --data-dir {data}\n\
             \n\
             Health and metrics of the manager: http://{console}/    Ctrl-C ends it.\n",
            workers = output::count(fleet.workers().len() as u64, "worker"),
            folder = fleet.folder().display(),
            others = others.join(", "),
            port = smtp.port(),
            program = program(),
            console = fleet.console(),
        ));
    }

    /// Shows how it stands, if it is time.
    pub(super) fn show(&mut self, scene: &mut Scene) {
        if let Some(live) = &mut self.live {
            return write(&live.draw(scene));
        }
        if self.began.elapsed() < self.next {
            return;
        }
        self.next += EVERY;
        self.line(scene, scene.lost());
    }

    fn line(&mut self, scene: &mut Scene, lost: u64) {
        let events = scene.events();
        if self.form == Form::Json {
            return write(&output::json_line(&Line::of(scene, lost, events)));
        }
        for event in events {
            say(&format!("{:>5.1}s  {}", event.seconds, event.what));
        }
        let names = scene.fleet().members().iter().map(|member| member.name());
        if self.lines.is_multiple_of(HEADS_EVERY) {
            let heads = ["accepted", "delivered", "deferred", "bounced", "queued", "lost", "twice"];
            let heads = heads.into_iter().chain(["by"]).chain(names).map(|head| format!("{head:>10}"));
            say(&bold(&format!("  time{}", heads.collect::<String>())));
        }
        self.lines += 1;
        let sums = scene.sums();
        let counts = [
            sums.accepted,
            sums.delivered,
            sums.deferred,
            sums.bounced,
            sums.open() - lost.min(sums.open()),
            lost,
        ];
        let counts = counts.into_iter().chain([sums.twice]).map(|count| format!("{count:>10}"));
        let nodes = sums.nodes.iter().map(|node| format!("{:>10}", node.delivered));
        let by = format!("{:>10}", "");
        say(&format!(
            "{:>5.0}s{}{by}{}",
            self.began.elapsed().as_secs_f64(),
            counts.collect::<String>(),
            nodes.collect::<String>()
        ));
    }

    /// Says that the end has begun.
    pub(super) fn ending(&self) {
        if self.form == Form::Text && self.live.is_none() {
            say("\nThe traffic ends; the nodes deliver what they have.");
        }
    }

    /// Shows the sums at the end.
    pub(super) fn sums(&self, scene: &mut Scene, lost: u64) {
        let events = scene.events();
        if self.form == Form::Json {
            return write(&output::json_line(&Line::of(scene, lost, events)));
        }
        let sums = scene.sums();
        say(&format!(
            "\n{}\nIn {:.1} s: {}\nAttempts that were deferred: {}. The data is gone with the demo.",
            nodes(scene),
            self.began.elapsed().as_secs_f64(),
            account(&sums, lost),
            sums.deferred
        ));
    }
}

impl Line {
    fn of(scene: &Scene, lost: u64, events: Vec<Event>) -> Self {
        let sums = scene.sums();
        let node = |(number, node): (usize, &crate::fleet::NodeSums)| NodeLine {
            name: scene.fleet().members()[number].name().to_owned(),
            state: scene.state(number),
            accepted: node.accepted,
            delivered: node.delivered,
        };
        Self {
            seconds: scene.account().now().as_secs_f64(),
            accepted: sums.accepted,
            delivered: sums.delivered,
            deferred: sums.deferred,
            bounced: sums.bounced,
            queued: sums.open().saturating_sub(lost),
            lost,
            came_twice: sums.twice,
            nodes: sums.nodes.iter().enumerate().map(node).collect(),
            events,
        }
    }
}

/// Where all that was answered with 250 is.
pub(super) fn account(sums: &Sums, lost: u64) -> String {
    format!(
        "accepted {} = delivered {} + bounced {} + queued {}, lost {lost}, came twice {}",
        sums.accepted,
        sums.delivered,
        sums.bounced,
        sums.open().saturating_sub(lost),
        sums.twice,
    )
}

/// This program, as it was called.
fn program() -> String {
    env::args().next().unwrap_or_else(|| "posthouse".into())
}

fn bold(text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn say(text: &str) {
    write(&format!("{text}\n"));
}

/// A reader that has left does not end the demo.
fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
