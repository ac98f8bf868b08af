//! `posthouse mail suppress`

use std::{fs, io, path::PathBuf};

use base::Clock;
use clap::Args;
use indicatif::ProgressBar;
use store::settings::MAX_SUPPRESSED_AT_ONCE;

use crate::{
    api::{SuppressAnswer, SuppressRequest},
    commands::{ask::Ask, when::Until},
    failure::Failure,
    output::{self, Form},
};

/// Send no more mail to addresses
///
/// What is to go to them fails, and its sender is told. Letters count the same in either case.
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
                Form::Text => {
                    let new = output::count(sum.new, "address").replace("addresss", "addresses");
                    format!("{new} suppressed, {} changed.\n", sum.changed)
                }
            })
        })
    }
}
