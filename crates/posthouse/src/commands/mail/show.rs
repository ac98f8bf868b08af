//! `posthouse mail show`

use base::{IdError, MessageId, WorkId};
use clap::Args;

use super::log;
use crate::{
    api::MessageStory,
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show the whole story of a message
#[derive(Debug, Args)]
pub(in crate::commands) struct Show {
    /// The message's id, as the `250` reply and lists show it; that of one of its works will do
    #[arg(value_name = "ID", value_parser = message_id)]
    id: MessageId,
    #[command(flatten)]
    ask: Ask,
}

fn message_id(text: &str) -> Result<MessageId, IdError> {
    match text.parse::<WorkId>() {
        Ok(work) => Ok(work.message),
        Err(_) => text.parse(),
    }
}

impl Show {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let story = client.message(self.id).await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&story),
                Form::Text => text(&story),
            })
        })
    }
}

fn text(story: &MessageStory) -> String {
    let mut fates = Table::new([Align::Left, Align::Left, Align::Right, Align::Left]);
    fates.header(["RECIPIENT", "STATE", "ATTEMPTS", "LAST REPLY"]);
    for recipient in &story.recipients {
        fates.row([
            recipient.address.clone(),
            recipient.state.clone(),
            recipient.attempts.to_string(),
            recipient.reply.clone().unwrap_or_default(),
        ]);
    }
    let mut happened = Table::new([Align::Left, Align::Left, Align::Left, Align::Left, Align::Left]);
    happened.header(["TIME (UTC)", "WHAT", "NODE", "RECIPIENT", "DETAILS"]);
    for record in &story.records {
        happened.row([
            output::time(record.time),
            record.what.clone(),
            record.node.clone(),
            record.recipient.clone(),
            log::details(record),
        ]);
    }
    format!(
        "message {} from {}, {} bytes, accepted {} UTC\n\n{}\n{}",
        story.id,
        output::sender(&story.sender),
        story.size,
        output::time(story.accepted),
        fates.text(),
        happened.text(),
    )
}
