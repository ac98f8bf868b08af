//! `posthouse mail send`

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
};

use base::{Clock, HumanDuration, RetryPlan};
use bytes::Bytes;
use clap::Args;

use super::compose;
use crate::{
    api::{SendAnswer, SendRequest, plan, priority},
    commands::{ask::Ask, when::Until},
    config::{HostName, bounds},
    failure::Failure,
    output::{self, Form},
};

/// Send a message: from a file, from standard input, or a short text
#[derive(Debug, Args)]
pub(in crate::commands) struct Send {
    /// The message's sender in the envelope; empty for none
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<String>,
    /// The subject of a short text message
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// The text of a short text message
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The file that holds the message (RFC 5322), or `-` for standard input, which is also the default
    #[arg(value_name = "FILE", conflicts_with_all = ["subject", "body"])]
    file: Option<PathBuf>,
    /// Send it later: after so long, such as 2h, or at this time (RFC 3339)
    #[arg(long, value_name = "WAIT|TIME")]
    at: Option<Until>,
    /// Before or behind others, from -9 to 9
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0, value_parser = priority)]
    priority: i8,
    /// How long it is tried, instead of delivery.expire
    #[arg(long, value_name = "AGE", value_parser = bounds::expire_flag)]
    expire: Option<HumanDuration>,
    /// How long to wait after each attempt, instead of delivery.retry; the last wait repeats
    #[arg(long, value_name = "WAIT,WAIT,…", value_parser = plan)]
    retry: Option<RetryPlan>,
    #[command(flatten)]
    ask: Ask,
}

impl Send {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let message = Bytes::from(self.message()?);
        let request = SendRequest {
            from: self.from,
            to: self.to,
            at: self.at.map(|at| at.moment(Clock::system().now())),
            priority: self.priority,
            expire: self.expire,
            retry: self.retry,
        };
        let form = self.ask.form();
        self.ask.run(async |client| {
            let answer = client.send(&request, message).await?;
            Ok(match form {
                Form::Json => output::json(&answer),
                Form::Text => text(&answer),
            })
        })
    }

    fn message(&self) -> Result<Vec<u8>, Failure> {
        if self.subject.is_some() || self.body.is_some() {
            return compose::text_message(
                &compose::Text {
                    from: &self.from,
                    to: &self.to,
                    subject: self.subject.as_deref().unwrap_or_default(),
                    body: self.body.as_deref().unwrap_or_default(),
                },
                Clock::system().now(),
                &HostName::default(),
            )
            .map(String::into_bytes)
            .map_err(Failure::usage);
        }
        let read = match self.file.as_ref().filter(|file| file.as_os_str() != "-") {
            Some(file) => {
                fs::read(file).map_err(|e| Failure::world(format!("cannot read {}: {e}", file.display())))?
            }
            None => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes)?;
                bytes
            }
        };
        if read.is_empty() {
            return Err(Failure::usage("the message is empty")
                .hint("give a FILE, pipe a message in, or write one with --subject and --body"));
        }
        Ok(read)
    }
}

fn text(answer: &SendAnswer) -> String {
    let SendAnswer { id, recipients } = answer;
    let recipients = output::count(*recipients, "recipient");
    format!("{id} is queued for {recipients}; follow it with `posthouse mail show {id}`\n")
}
