//! `posthouse nodes takeover`

use clap::Args;

use crate::{
    api::TakeoverAnswer,
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// End a freeze: what nodes had that have been silent for too long goes elsewhere now
///
/// When many nodes fall silent together, nothing is taken back from them for a while, as it is probably our own network. Say this
/// if they are really gone.
#[derive(Debug, Args)]
pub(in crate::commands) struct Takeover {
    #[command(flatten)]
    ask: Ask,
}

impl Takeover {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let answer = client.takeover().await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&answer),
                Form::Text => text(answer).to_owned(),
            })
        })
    }
}

fn text(answer: TakeoverAnswer) -> &'static str {
    match answer.was_frozen {
        true => "Takeover goes on: what nodes had that are silent for too long goes elsewhere.\n",
        false => "Takeover was not frozen, so nothing has changed.\n",
    }
}
