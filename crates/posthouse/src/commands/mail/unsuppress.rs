//! `posthouse mail unsuppress`

use clap::Args;
use store::settings::MAX_SUPPRESSED_AT_ONCE;

use super::suppress::Whom;
use crate::{
    api::{UnsuppressAnswer, UnsuppressRequest},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Send mail to addresses again
#[derive(Debug, Args)]
pub(in crate::commands) struct Unsuppress {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    ask: Ask,
}

impl Unsuppress {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let all = self.whom.all()?;
        self.ask.run(async |client| {
            let mut sum = UnsuppressAnswer::default();
            for some in all.chunks(MAX_SUPPRESSED_AT_ONCE) {
                sum.ended += client.unsuppress(&UnsuppressRequest { addresses: some.to_vec() }).await?.ended;
            }
            Ok(match self.ask.form() {
                Form::Json => output::json(&sum),
                Form::Text => format!("{} of {} suppressed no more.\n", sum.ended, all.len()),
            })
        })
    }
}
