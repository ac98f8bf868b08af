//! `posthouse mail pause`

use base::{AddressPattern, Clock, DomainPattern};
use clap::Args;
use store::settings::About;

use super::{
    pauses::line,
    works::{Decision, Sure, counted, phrase},
};
use crate::{
    api::{Earnest, PauseRequest, Selector, WorkAction, WorksRequest},
    commands::{ask::Ask, when::Until},
    failure::Failure,
    output::{self, Form},
};

/// Let mail wait: to a domain, from a sender, of an account, or all of it
///
/// What waits for that is counted first, and asked. What is under way goes on; mail is taken in as before. A pause ends with
/// `mail resume`, or by itself. What is paused already gets the new end and reason.
#[derive(Debug, Args)]
pub(in crate::commands) struct Pause {
    #[command(flatten)]
    about: What,
    /// For so long, such as 2h, or until this time (RFC 3339); without it until it is resumed
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

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Mail to this domain; `*.example.com` for all below it
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<DomainPattern>,
    /// Mail from this address; `*@example.com` for a whole domain, `<>` for none
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<AddressPattern>,
    /// Mail that this account brought: a client's address
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// All mail
    #[arg(long)]
    all: bool,
}

impl What {
    fn about(self) -> About {
        let sender = self.sender.map(About::Sender);
        let account = self.account.map(About::Account);
        self.domain.map(About::Domain).or(sender).or(account).unwrap_or(About::All)
    }
}

impl Pause {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let now = Clock::system().now();
        let until = self.until.map(|until| until.moment(now));
        let request = PauseRequest { about: self.about.about(), until, why: self.why, by: who() };
        let form = self.ask.form();
        self.ask.run(async |client| {
            let meant = client.works(&count(&request.about), |_| {}).await?;
            let question = format!("Pause {}, for which {} wait", request.about, phrase(&meant));
            match self.sure.decide(&meant, &question)? {
                Decision::Act => {
                    let pause = client.pause(&request).await?;
                    Ok(match form {
                        Form::Json => output::json(&pause),
                        Form::Text => line(&pause),
                    })
                }
                Decision::Counted | Decision::Refused => Ok(match form {
                    Form::Json => output::json(&meant),
                    Form::Text => format!("{}\n", counted(&meant)),
                }),
            }
        })
    }
}

/// Asks how many works a pause would keep from going.
fn count(about: &About) -> WorksRequest {
    let selector = match about.clone() {
        About::Domain(domain) => Selector { domain: Some(domain), ..Selector::default() },
        About::Sender(sender) => Selector { sender: Some(sender), ..Selector::default() },
        About::Account(account) => Selector { account: Some(account), ..Selector::default() },
        About::All => Selector { all: true, ..Selector::default() },
    };
    WorksRequest { selector, action: WorkAction::Hold, earnest: Earnest::Count }
}

/// Who is at the keyboard, as far as the system says.
fn who() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
