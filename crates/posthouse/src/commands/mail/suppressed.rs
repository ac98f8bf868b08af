//! `posthouse mail suppressed`

use clap::Args;

use crate::{
    api::{SuppressedPage, SuppressedQuery},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show the addresses that no mail is sent to, in the order of their letters
#[derive(Debug, Args)]
pub(in crate::commands) struct Suppressed {
    /// Only this address
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    /// Go on behind this address
    #[arg(long, value_name = "ADDRESS")]
    after: Option<String>,
    /// Show at most so many, 10,000 at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

impl Suppressed {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let Self { address, after, limit, ask } = self;
        let query = SuppressedQuery { address, after, limit: Some(limit) };
        ask.run(async |client| {
            let page = client.suppressed(&query).await?;
            Ok(match ask.form() {
                Form::Json => output::json(&page),
                Form::Text => text(&page),
            })
        })
    }
}

fn text(page: &SuppressedPage) -> String {
    if page.addresses.is_empty() {
        return "No such address is suppressed.\n".into();
    }
    let mut table = Table::new([Align::Left, Align::Left, Align::Left, Align::Left]);
    table.header(["ADDRESS", "SINCE (UTC)", "UNTIL (UTC)", "WHY"]);
    for address in &page.addresses {
        table.row([
            address.address.clone(),
            output::time(address.since),
            address.until.map_or_else(|| "ended by hand".into(), output::time),
            address.why.clone(),
        ]);
    }
    let more =
        page.next.iter().map(|next| format!("There are {} in all; go on with --after {next}\n", page.total));
    table.text() + &more.collect::<String>()
}
