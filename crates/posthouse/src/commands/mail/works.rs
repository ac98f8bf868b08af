//! What all commands share that do something to works: which are meant, a count first, a question, and a bar.

use std::io::{self, BufRead, IsTerminal, Write};

use base::{AddressPattern, DomainPattern, HumanDuration};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    api::{Earnest, Selector, WorkAction, WorksReport, WorksRequest},
    commands::ask::Ask,
    control::Client,
    failure::Failure,
    output::{self, Form},
};

/// Which works are meant: those for which all that is given holds.
#[derive(Clone, Debug, Args)]
#[group(id = "selector", required = true, multiple = true)]
struct Meant {
    /// A message, or one of its works; may be repeated
    #[arg(long, value_name = "ID", group = "selector")]
    id: Vec<String>,
    /// To this domain; `*.example.com` for all below it
    #[arg(long, value_name = "DOMAIN", group = "selector")]
    domain: Option<DomainPattern>,
    /// From this address; `*@example.com` for a whole domain, `<>` for none
    #[arg(long, value_name = "ADDRESS", group = "selector")]
    sender: Option<AddressPattern>,
    /// Brought by this account: a client's address
    #[arg(long, value_name = "ACCOUNT", group = "selector")]
    account: Option<String>,
    /// With this recipient, which has not ended; may be repeated
    #[arg(long, value_name = "ADDRESS", group = "selector")]
    recipient: Vec<AddressPattern>,
    /// Accepted so long ago or longer
    #[arg(long, value_name = "AGE", group = "selector")]
    older_than: Option<HumanDuration>,
    /// Tried more often than this
    #[arg(long, value_name = "N", group = "selector")]
    attempts_over: Option<u32>,
    /// Where they are for this reason, as `mail queue --all` shows it
    #[arg(long, value_name = "WORD", group = "selector")]
    reason: Option<String>,
    /// Held back by an operator
    #[arg(long, group = "selector")]
    held: bool,
    /// All works that wait
    #[arg(long, group = "selector")]
    all: bool,
}

/// Works, and whether to ask before something is done to them.
#[derive(Debug, Args)]
pub(super) struct Works {
    #[command(flatten)]
    meant: Meant,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    ask: Ask,
}

/// Whether to ask before something is done.
#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Only count what is meant
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// What is to be done once it is known how much is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Act,
    /// It was only to be counted.
    Counted,
    /// Whoever was asked does not want it.
    Refused,
}

impl Sure {
    /// Decides, and asks whoever is at the terminal if it has to.
    pub(super) fn decide(&self, meant: &WorksReport, question: &str) -> Result<Decision, Failure> {
        match () {
            () if self.dry_run => Ok(Decision::Counted),
            () if self.yes || meant.works == 0 => Ok(Decision::Act),
            () if !io::stdin().is_terminal() => {
                let error = Failure::usage(format!(
                    "{} meant, and nothing was done: there is nobody to ask",
                    many(meant)
                ));
                Err(error.hint("say --yes to do it, or --dry-run to count only"))
            }
            () => {
                write!(io::stderr(), "{question}? [y/N] ")?;
                let mut answer = String::new();
                io::stdin().lock().read_line(&mut answer)?;
                let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
                Ok(if agreed { Decision::Act } else { Decision::Refused })
            }
        }
    }
}

/// An action in words: for the question, and for what was done.
pub(super) struct Words {
    /// `Hold`.
    pub(super) ask: &'static str,
    /// `held`.
    pub(super) done: &'static str,
}

impl Works {
    /// Counts, asks, and does it.
    pub(super) fn act(&self, action: WorkAction, words: &Words) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = self.ask.client()?;
        let count = self.request(action, Earnest::Count);
        let meant = runtime.block_on(client.works(&count, |_| {}))?;
        let decision = self.sure.decide(&meant, &format!("{} {}", words.ask, phrase(&meant)))?;
        if decision == Decision::Counted || meant.works == 0 {
            return self.show(&meant, &counted(&meant));
        }
        if decision == Decision::Refused {
            return self.show(&meant, "Nothing was done.");
        }
        let request = self.request(action, Earnest::Act);
        let bar = bar(meant.works);
        let report = runtime.block_on(run(&client, &request, &bar));
        bar.finish_and_clear();
        let report = report?;
        self.show(&report, &format!("{} {}.", output::count(report.done, "work"), words.done))
    }

    fn request(&self, action: WorkAction, earnest: Earnest) -> WorksRequest {
        let Meant { id, domain, sender, account, recipient, older_than, attempts_over, reason, held, all } =
            self.meant.clone();
        let selector = Selector {
            all,
            ids: id,
            domain,
            sender,
            account,
            recipients: recipient,
            older_than,
            attempts_over,
            reason,
            held,
        };
        WorksRequest { selector, action, earnest }
    }

    fn show(&self, report: &WorksReport, text: &str) -> Result<(), Failure> {
        Ok(output::print(&match self.ask.form() {
            Form::Json => output::json(report),
            Form::Text => format!("{text}\n"),
        })?)
    }
}

async fn run(
    client: &Client,
    request: &WorksRequest,
    bar: &ProgressBar,
) -> Result<WorksReport, crate::control::ClientError> {
    client.works(request, |report| bar.set_position(report.works)).await
}

/// What is said where it was only counted.
pub(super) fn counted(meant: &WorksReport) -> String {
    format!("{} meant; nothing was done.", many(meant))
}

/// `12 works (34 recipients)`.
pub(super) fn phrase(report: &WorksReport) -> String {
    format!("{} ({})", output::count(report.works, "work"), output::count(report.recipients, "recipient"))
}

fn many(report: &WorksReport) -> String {
    format!("{} {}", phrase(report), if report.works == 1 { "is" } else { "are" })
}

fn bar(works: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} works, {eta} left");
    ProgressBar::new(works).with_style(style.expect("it names what a bar has"))
}
