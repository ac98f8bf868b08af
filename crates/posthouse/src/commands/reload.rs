//! `posthouse reload`

use clap::Args;

use super::ask::Ask;
use crate::{
    api::{ReloadReport, Reloaded},
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Have the node read its configuration again: all of it counts at once, or nothing changes
///
/// The flags that the node was started with still go over the file. What has another value is shown key by key; if one of
/// these keys needs a restart, or something is wrong, nothing is changed. SIGHUP does the same.
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    ask: Ask,
}

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut refused = None;
        self.ask.run(async |client| {
            let report = client.reload().await?;
            let shown = match self.ask.form() {
                Form::Json => output::json(&report),
                Form::Text => text(&report),
            };
            refused = (report.outcome == Reloaded::Refused).then_some(report);
            Ok(shown)
        })?;
        refused.map_or(Ok(()), |report| Err(failure(&report)))
    }
}

fn text(report: &ReloadReport) -> String {
    if report.outcome == Reloaded::Unchanged {
        return "The configuration is as before.\n".into();
    }
    let mut table = Table::new([Align::Left, Align::Left, Align::Left, Align::Left]);
    for change in &report.changes {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
        let note = if change.needs_restart { "needs a restart" } else { "" };
        table.row([change.key.clone(), value(&change.old), format!("→ {}", value(&change.new)), note.into()]);
    }
    table.text()
}

fn failure(report: &ReloadReport) -> Failure {
    let fixed = report.changes.iter().filter(|change| change.needs_restart);
    let keys: Vec<&str> = fixed.map(|change| change.key.as_str()).collect();
    Failure::world(format!("nothing was changed: {} can change only with a restart", keys.join(", ")))
        .hint("restart the node, or put the former value back and reload again")
}
