//! `posthouse status`

use std::time::Duration;

use base::ByteSize;
use clap::Args;

use super::ask::Ask;
use crate::{
    api::{DiskRoom, Readiness, Role, StatusReport, WorkerStatus},
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show how the node is, and what it has done since its start
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    ask: Ask,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let status = client.status().await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&status),
                Form::Text => text(&status),
            })
        })
    }
}

fn text(status: &StatusReport) -> String {
    let role = match status.role {
        Role::Standalone => "standalone",
        Role::Manager => "manager",
        Role::Worker => "worker",
    };
    let ready = match &status.readiness {
        Readiness::Ready => "ready".to_owned(),
        Readiness::NotReady(reason) => format!("not ready: {reason}"),
    };
    let up = output::duration(Duration::from_secs(status.uptime_seconds));
    if let Some(worker) = &status.worker {
        return of_worker(status, worker, &ready, &up);
    }
    let mut table = Table::new([Align::Left, Align::Right, Align::Left]);
    let rate = |rate: f64| format!("{rate:.1}/s");
    table.row(["accepted".into(), status.accepted.to_string(), rate(status.rates.accepted)]);
    table.row(["delivered".into(), status.delivered.to_string(), rate(status.rates.delivered)]);
    table.row(["deferred".into(), status.deferred.to_string(), rate(status.rates.deferred)]);
    table.row(["bounced".into(), status.bounced.to_string(), rate(status.rates.bounced)]);
    table.row(["expired".into(), status.expired.to_string(), String::new()]);
    table.row([
        "queued".into(),
        status.queued.to_string(),
        format!("in {}", output::count(status.queued_works, "work")),
    ]);
    table.row(["sessions".into(), status.sessions.to_string(), "of clients".into()]);
    table.row(["connections".into(), status.connections.to_string(), "to next hops".into()]);
    table.row(["records".into(), status.records.behind.to_string(), "not yet in the log".into()]);
    if status.records.lost > 0 {
        table.row(["lost".into(), status.records.lost.to_string(), "records the log never took".into()]);
    }
    format!(
        "{} ({role}) is {ready}; up {up}, version {}\n{}spool: {} in use, {} free, {} on disk; message log: {} on disk; {} left there{}\n",
        status.name,
        status.version,
        table.text(),
        output::count(status.spool.segments, "segment"),
        status.spool.free_segments,
        size(status.spool.bytes),
        size(status.records.bytes),
        size(status.spool.disk_free),
        match status.spool.room {
            DiskRoom::Enough => "",
            DiskRoom::Low => ", which is little",
            DiskRoom::Full => ": new mail is refused until there is more",
        },
    )
}

fn of_worker(status: &StatusReport, worker: &WorkerStatus, ready: &str, up: &str) -> String {
    let mut table = Table::new([Align::Left, Align::Right, Align::Left]);
    table.row(["accepted".into(), status.accepted.to_string(), "recipients".into()]);
    table.row(["sessions".into(), status.sessions.to_string(), "of clients".into()]);
    table.row(["connections".into(), status.connections.to_string(), "to next hops".into()]);
    table.row(["works".into(), worker.works.to_string(), "being attempted".into()]);
    table.row(["waiting".into(), worker.waiting.to_string(), "for the manager's answer".into()]);
    let link = match (&worker.away, worker.manager.as_str()) {
        (None, manager) => format!("linked to its manager {manager}"),
        (Some(why), "") => format!("not linked to a manager: {why}"),
        (Some(why), manager) => format!("not linked to its manager {manager}: {why}"),
    };
    format!(
        "{} (worker) is {ready}; up {up}, version {}\n{}{link}\n",
        status.name,
        status.version,
        table.text()
    )
}

/// A size in whole MiB or KiB, rounded up, so that it reads well.
fn size(bytes: u64) -> ByteSize {
    match bytes {
        0..1024 => ByteSize(bytes),
        1024..0x10_0000 => ByteSize::kib(bytes.div_ceil(1 << 10)),
        _ => ByteSize::mib(bytes.div_ceil(1 << 20)),
    }
}
