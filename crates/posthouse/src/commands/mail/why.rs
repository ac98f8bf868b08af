//! `posthouse mail why`

use base::{Clock, Timestamp};
use clap::Args;

use crate::{
    api::WorkWhy,
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Say why a message waits: the reason that binds now, and when it ends
#[derive(Debug, Args)]
pub(in crate::commands) struct Why {
    /// The message's id, or that of one of its works
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    ask: Ask,
}

impl Why {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let works = client.why(&self.id).await?;
            let now = Clock::system().now();
            Ok(match self.ask.form() {
                Form::Json => output::json(&works),
                Form::Text => works.iter().map(|work| text(work, now)).collect(),
            })
        })
    }
}

fn text(work: &WorkWhy, now: Timestamp) -> String {
    let recipients = output::count(work.recipients.len() as u64, "recipient");
    let ends = match work.until {
        Some(until) if until.0 > now => {
            let left = output::duration(until.0.since(now));
            format!("  ends in {left}, at {} UTC\n", output::time(until))
        }
        _ => String::new(),
    };
    format!("{} for {} ({recipients}) waits: {}\n  {}\n{ends}", work.id, work.domain, work.reason, work.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_with_its_end() {
        let work = WorkWhy {
            id: "0195b3c4d5e67f808182838485868788.0".into(),
            domain: "example.com".into(),
            recipients: vec!["a@example.com".into()],
            reason: "retry".into(),
            text: "attempt 2 did not end it: 450 4.2.0 busy".into(),
            until: Some(Timestamp::from_millis(90_000).into()),
            site: None,
            throttle: None,
            pause: None,
            node: None,
            silent_seconds: None,
            last_reply: None,
        };
        assert_eq!(
            text(&work, Timestamp::from_millis(0)),
            "0195b3c4d5e67f808182838485868788.0 for example.com (1 recipient) waits: retry\n  \
             attempt 2 did not end it: 450 4.2.0 busy\n  ends in 1m 30s, at 1970-01-01 00:01:30 UTC\n"
        );
    }
}
