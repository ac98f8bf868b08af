//! `posthouse mail resume`

use clap::Args;

use crate::{
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// End pauses: what they held back goes as soon as it may
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
pub(in crate::commands) struct Resume {
    /// The numbers of the pauses, as `mail pauses` shows them
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<i64>,
    /// All pauses
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    ask: Ask,
}

impl Resume {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let ids = match self.all {
                true => client.pauses().await?.into_iter().map(|pause| pause.id).collect(),
                false => self.ids.clone(),
            };
            let mut ended = Vec::with_capacity(ids.len());
            for id in ids {
                ended.push(client.resume(id).await?);
            }
            Ok(match self.ask.form() {
                Form::Json => output::json(&ended),
                Form::Text if ended.is_empty() => "Nothing is paused.\n".into(),
                Form::Text => ended.iter().map(|pause| format!("{} goes on.\n", pause.about)).collect(),
            })
        })
    }
}
