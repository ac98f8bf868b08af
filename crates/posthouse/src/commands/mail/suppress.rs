//! `posthouse mail suppress`

use std::{fs, io, path::PathBuf};

use base::{AddressPattern, Clock};
use clap::Args;
use indicatif::ProgressBar;
use store::settings::MAX_SUPPRESSED_AT_ONCE;

use super::works::{Decision, Sure, counted, phrase};
use crate::{
    api::{Earnest, Selector, SuppressAnswer, SuppressRequest, WorkAction, WorksReport, WorksRequest},
    commands::{ask::Ask, when::Until},
    control::Client,
    failure::Failure,
    output::{self, Form},
};

/// Send no more mail to addresses
///
/// What is to go to them fails, and its sender is told. What waits for them is counted first, and asked. Letters count the same in
/// either case.
#[derive(Debug, Args)]
pub(in crate::commands) struct Suppress {
    #[command(flatten)]
    whom: Whom,
    /// For so long, such as 30d, or until this time (RFC 3339); without it until `mail unsuppress`
    #[arg(long, value_name = "TIME", visible_alias = "for")]
    until: Option<Until>,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    ask: Ask,
}

/// Addresses, given or in a file.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = true)]
pub(super) struct Whom {
    /// The addresses
    #[arg(value_name = "ADDRESS", group = "whom")]
    addresses: Vec<String>,
    /// A file with an address a line, or `-` for standard input
    #[arg(long, value_name = "FILE", group = "whom")]
    file: Option<PathBuf>,
}

impl Whom {
    /// All of them. Empty lines, and those that begin with `#`, are passed over.
    pub(super) fn all(&self) -> Result<Vec<String>, Failure> {
        let mut all = self.addresses.clone();
        if let Some(file) = &self.file {
            let read = if file.as_os_str() == "-" {
                io::read_to_string(io::stdin())
            } else {
                fs::read_to_string(file)
            };
            let text =
                read.map_err(|error| Failure::world(format!("cannot read {}: {error}", file.display())))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            all.extend(lines.map(str::to_owned));
        }
        Ok(all)
    }
}

impl Suppress {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let all = self.whom.all()?;
        let until = self.until.map(|until| until.moment(Clock::system().now()));
        let bar = ProgressBar::new(all.len() as u64);
        self.ask.run(async |client| {
            let meant = waiting(&client, &all).await?;
            let many = count(all.len() as u64);
            let question = format!("Suppress {many}, for which {} wait", phrase(&meant));
            let decision = self.sure.decide(&meant, &question)?;
            if decision != Decision::Act {
                return Ok(match self.ask.form() {
                    Form::Json => output::json(&meant),
                    Form::Text => format!("{}\n", counted(&meant)),
                });
            }
            let mut sum = SuppressAnswer::default();
            for some in all.chunks(MAX_SUPPRESSED_AT_ONCE) {
                let request = SuppressRequest { addresses: some.to_vec(), until, why: self.why.clone() };
                let done = client.suppress(&request).await?;
                sum = SuppressAnswer { new: sum.new + done.new, changed: sum.changed + done.changed };
                bar.inc(some.len() as u64);
            }
            bar.finish_and_clear();
            Ok(match self.ask.form() {
                Form::Json => output::json(&sum),
                Form::Text => format!("{} suppressed, {} changed.\n", count(sum.new), sum.changed),
            })
        })
    }
}

/// Counts the works that wait for these addresses, and names one that is none.
async fn waiting(client: &Client, addresses: &[String]) -> Result<WorksReport, Failure> {
    let mut sum = WorksReport::default();
    for some in addresses.chunks(MAX_SUPPRESSED_AT_ONCE) {
        let recipients = some.iter().map(|address| {
            address.parse().map_err(|_| Failure::world(format!("{address:?} is not an address")))
        });
        let recipients = recipients.collect::<Result<Vec<AddressPattern>, Failure>>()?;
        let selector = Selector { recipients, ..Selector::default() };
        let request = WorksRequest { selector, action: WorkAction::Cancel, earnest: Earnest::Count };
        let meant = client.works(&request, |_| {}).await?;
        sum.works += meant.works;
        sum.recipients += meant.recipients;
    }
    Ok(sum)
}

fn count(addresses: u64) -> String {
    format!("{addresses} {}", if addresses == 1 { "address" } else { "addresses" })
}
