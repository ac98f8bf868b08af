//! `posthouse mail pauses`

use clap::Args;

use crate::{
    api::PauseEntry,
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show what is paused, until when, and why
#[derive(Debug, Args)]
pub(in crate::commands) struct Pauses {
    #[command(flatten)]
    ask: Ask,
}

impl Pauses {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let pauses = client.pauses().await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&pauses),
                Form::Text if pauses.is_empty() => "Nothing is paused.\n".into(),
                Form::Text => text(&pauses),
            })
        })
    }
}

fn text(pauses: &[PauseEntry]) -> String {
    let mut table =
        Table::new([Align::Right, Align::Left, Align::Left, Align::Left, Align::Left, Align::Left]);
    table.header(["ID", "PAUSED", "SINCE (UTC)", "UNTIL (UTC)", "BY", "WHY"]);
    for pause in pauses {
        table.row([
            pause.id.to_string(),
            pause.about.to_string(),
            output::time(pause.since),
            pause.until.map_or_else(|| "resumed by hand".into(), output::time),
            pause.by.clone(),
            pause.why.clone(),
        ]);
    }
    table.text()
}

/// A pause in a line.
pub(super) fn line(pause: &PauseEntry) -> String {
    let end = match pause.until {
        Some(until) => format!("until {} UTC", output::time(until)),
        None => format!("until `posthouse mail resume {}`", pause.id),
    };
    format!("Pause {}: {} waits {end}.\n", pause.id, pause.about)
}
