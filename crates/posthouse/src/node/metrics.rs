//! The metrics, each with its text for operators (Prometheus exposition format 0.0.4).

use std::{fmt::Write as _, sync::atomic::Ordering};

use cluster::{
    manager::{Manager, NodeReport},
    membership::Liveness,
};
use mail::{Counters, Gateway};
use queue::{Queue, Room};
use store::settings::NodeState;

use crate::api::Readiness;

/// A metric: name, kind, text, value.
type Metric = (&'static str, Kind, &'static str, u64);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// All metrics as text; of a manager also those of its nodes.
pub(super) fn text(gateway: &Gateway, queue: &Queue, log_bytes: u64, manager: Option<&Manager>) -> String {
    let deliveries =
        ("posthouse_deliveries", Kind::Gauge, "Deliveries under way.", gateway.deliveries() as u64);
    let mail = mail(gateway.counters(), gateway.sessions(), gateway.kept_connections());
    let all = mail.into_iter().chain([deliveries]).chain(waiting(gateway)).chain(storage(queue, log_bytes));
    let Some(manager) = manager else { return written(all) };
    let nodes = manager.nodes();
    written(all.chain(cluster(manager, &nodes))) + &of_nodes(&nodes)
}

/// A worker's metrics as text.
pub(super) fn of_worker(
    mail: &mail::Worker,
    link: &cluster::worker::Worker,
    readiness: &Readiness,
) -> String {
    use Kind::Gauge;
    let up = matches!(link.state().link, cluster::worker::Link::Up { .. });
    let own = [
        ("posthouse_attempts", Gauge, "Bursts being attempted for the manager.", mail.attempts() as u64),
        (
            "posthouse_works_held",
            Gauge,
            "Works that the manager has given and not taken back.",
            link.works() as u64,
        ),
        (
            "posthouse_offers_waiting",
            Gauge,
            "Messages whose clients wait for the manager's answer; rising: the manager is away or slow.",
            link.waiting() as u64,
        ),
        ("posthouse_link_up", Gauge, "1 while there is a link to the manager.", u64::from(up)),
        (
            "posthouse_ready",
            Gauge,
            "1 while the node takes mail in.",
            u64::from(*readiness == Readiness::Ready),
        ),
    ];
    written(self::mail(mail.counters(), mail.sessions(), mail.kept_connections()).into_iter().chain(own))
}

fn written(metrics: impl Iterator<Item = Metric>) -> String {
    let mut text = String::with_capacity(4096);
    for (name, kind, help, value) in metrics {
        head(&mut text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

fn head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn cluster(manager: &Manager, nodes: &[NodeReport]) -> Vec<Metric> {
    use Kind::{Counter, Gauge};
    let counters = manager.counters();
    vec![
        ("posthouse_cluster_nodes", Gauge, "Nodes that are registered.", nodes.len() as u64),
        (
            "posthouse_cluster_frozen",
            Gauge,
            "1 while nothing is taken back from silent nodes, because many fell silent together.",
            u64::from(manager.frozen_for().is_some()),
        ),
        (
            "posthouse_cluster_brought_total",
            Counter,
            "Messages that workers have brought.",
            counters.brought.load(Ordering::Relaxed),
        ),
        (
            "posthouse_cluster_granted_total",
            Counter,
            "Works given to workers.",
            counters.granted.load(Ordering::Relaxed),
        ),
        (
            "posthouse_cluster_bodies_total",
            Counter,
            "Bodies of messages sent to workers.",
            counters.bodies.load(Ordering::Relaxed),
        ),
        (
            "posthouse_link_refused_total",
            Counter,
            "Handshakes at the port for nodes that came to nothing.",
            counters.refused.load(Ordering::Relaxed),
        ),
    ]
}

/// What each node has a line of.
type OfNode = (&'static str, Kind, &'static str, fn(&NodeReport) -> Option<f64>);

const OF_NODE: [OfNode; 6] = [
    ("posthouse_node_up", Kind::Gauge, "1 while the node is heard and linked.", |node| {
        let up = node.linked && node.liveness == Some(Liveness::Alive);
        Some(if up { 1.0 } else { 0.0 })
    }),
    ("posthouse_node_works", Kind::Gauge, "Works that the node was given and has.", |node| {
        Some(node.works.into())
    }),
    (
        "posthouse_node_held_works",
        Kind::Gauge,
        "Works that nobody else may attempt because the node holds them, also those of its former processes.",
        |node| u32::try_from(node.held).ok().map(f64::from),
    ),
    (
        "posthouse_node_heard_seconds",
        Kind::Gauge,
        "How long ago the node was heard; no line: not since the manager's start.",
        // What is only expected counts from the start, at which nobody was heard.
        |node| {
            node.heard.filter(|_| node.liveness != Some(Liveness::Expected)).map(|heard| heard.as_secs_f64())
        },
    ),
    ("posthouse_node_brought_total", Kind::Counter, "Messages that the node has brought.", |node| {
        Some(node.brought as f64)
    }),
    ("posthouse_node_granted_total", Kind::Counter, "Works given to the node.", |node| {
        Some(node.granted as f64)
    }),
];

fn of_nodes(nodes: &[NodeReport]) -> String {
    let mut text = String::with_capacity(1024);
    for (name, kind, help, value) in OF_NODE {
        head(&mut text, name, kind, help);
        for node in nodes {
            if let Some(value) = value(node) {
                let _ = writeln!(text, "{name}{{node=\"{}\"}} {value}", label(&node.name));
            }
        }
    }
    let name = "posthouse_node_state";
    head(
        &mut text,
        name,
        Kind::Gauge,
        "1 in the line of the state that is wanted of the node, 0 in the others.",
    );
    for node in nodes {
        for (state, word) in STATES {
            let is = u8::from(node.state == state);
            let _ = writeln!(text, "{name}{{node=\"{}\",state=\"{word}\"}} {is}", label(&node.name));
        }
    }
    text
}

const STATES: [(NodeState, &str); 4] = [
    (NodeState::Active, "active"),
    (NodeState::Cordoned, "cordoned"),
    (NodeState::Draining, "draining"),
    (NodeState::Quarantined, "quarantined"),
];

/// A text as it stands between the quotes of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn mail(counters: &Counters, sessions: usize, kept: usize) -> Vec<Metric> {
    use Kind::{Counter, Gauge};
    vec![
        ("posthouse_recipients_accepted_total", Counter, "Recipients accepted.", counters.accepted.now()),
        (
            "posthouse_recipients_delivered_total",
            Counter,
            "Recipients delivered to.",
            counters.delivered.now(),
        ),
        (
            "posthouse_recipients_deferred_total",
            Counter,
            "Recipients deferred, once for each attempt; rising fast: a next hop is in trouble.",
            counters.deferred.now(),
        ),
        (
            "posthouse_recipients_bounced_total",
            Counter,
            "Recipients that failed for good.",
            counters.bounced.now(),
        ),
        (
            "posthouse_recipients_expired_total",
            Counter,
            "Recipients too old to be tried again.",
            counters.expired.now(),
        ),
        (
            "posthouse_recipients_rejected_total",
            Counter,
            "Recipients refused at the door.",
            counters.rejected.now(),
        ),
        ("posthouse_messages_accepted_total", Counter, "Messages accepted.", counters.messages.now()),
        ("posthouse_sessions_total", Counter, "SMTP sessions taken in.", counters.sessions.now()),
        (
            "posthouse_sessions_turned_away_total",
            Counter,
            "SMTP sessions turned away because there were too many; rising: see limits.sessions.",
            counters.turned_away.now(),
        ),
        ("posthouse_sessions", Gauge, "SMTP sessions open now.", sessions as u64),
        ("posthouse_connects_total", Counter, "Connections opened to next hops.", counters.connects.now()),
        (
            "posthouse_connect_failures_total",
            Counter,
            "Connections to next hops that could not be opened.",
            counters.connect_failures.now(),
        ),
        ("posthouse_connections_kept", Gauge, "Connections kept for the next message.", kept as u64),
        (
            "posthouse_log_forgotten_total",
            Counter,
            "Records of the message log that were too old or too many (records.keep, records.max-size).",
            counters.forgotten.now(),
        ),
    ]
}

fn waiting(gateway: &Gateway) -> Vec<Metric> {
    use Kind::Gauge;
    let depths = gateway.depths();
    vec![
        ("posthouse_works_due", Gauge, "Works whose time has not come.", depths.due as u64),
        (
            "posthouse_works_ready",
            Gauge,
            "Works that go as soon as their site lets them.",
            depths.ready as u64,
        ),
        ("posthouse_works_paused", Gauge, "Works that wait for the end of a pause.", depths.paused as u64),
        ("posthouse_works_in_lookup", Gauge, "Works whose domain is being looked up.", depths.asking as u64),
        ("posthouse_sites", Gauge, "Sites that the dispatcher knows.", depths.sites as u64),
        (
            "posthouse_sites_resting",
            Gauge,
            "Sites that answer nobody and are left alone.",
            depths.resting as u64,
        ),
    ]
}

fn storage(queue: &Queue, log_bytes: u64) -> Vec<Metric> {
    use Kind::{Counter, Gauge};
    let stats = queue.stats();
    vec![
        ("posthouse_queue_recipients", Gauge, "Recipients that have not ended.", stats.recipients as u64),
        ("posthouse_queue_works", Gauge, "Works that have not ended.", stats.works as u64),
        ("posthouse_spool_segments", Gauge, "Segments of the spool in use.", stats.segments as u64),
        ("posthouse_spool_bytes", Gauge, "Bytes of the spool on disk.", stats.disk_bytes),
        (
            "posthouse_disk_free_bytes",
            Gauge,
            "Bytes free on the disk of the spool; below spool.min-free new mail is refused.",
            stats.disk_free,
        ),
        (
            "posthouse_disk_full",
            Gauge,
            "1 while new mail is refused because the disk of the spool is full.",
            u64::from(stats.room == Room::Full),
        ),
        (
            "posthouse_spool_damaged",
            Gauge,
            "Places of the spool found damaged; above 0: see the node's log.",
            stats.damaged as u64,
        ),
        (
            "posthouse_log_behind",
            Gauge,
            "Frames of the spool that are not safe in the message log yet; rising: the log is in trouble.",
            stats.untold,
        ),
        (
            "posthouse_log_lost_total",
            Counter,
            "Records given up because the message log did not take them for too long; above 0: mend the log.",
            stats.lost,
        ),
        ("posthouse_log_bytes", Gauge, "Bytes of the message log on disk.", log_bytes),
    ]
}
